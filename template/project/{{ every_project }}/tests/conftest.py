"""Share fixtures with every test below this folder; append your own."""

# The first import of all: it keeps your settings and your data out of the tests.
import tests.delivery.isolation  # noqa: F401

# isort: split

pytest_plugins = ["tests.delivery.fixtures"]
