"""What runs around a render when our command is used; a template that did it would need --trust."""
