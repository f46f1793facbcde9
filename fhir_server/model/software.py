"""The release of this software."""

from importlib.metadata import PackageNotFoundError, version


def software_version() -> str:
    try:
        return version("vehr")
    except PackageNotFoundError:
        return "0.1.0"
