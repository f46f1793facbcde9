"""``python -m fhir_server …`` is the ``vehr`` command."""

from fhir_server.cli import main

if __name__ == "__main__":
    main()
