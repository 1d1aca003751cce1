"""echolung: encode every clip once on a GPU, then ask as many honest questions as you like on a laptop."""

from importlib.metadata import version

__version__ = version("echolung")
