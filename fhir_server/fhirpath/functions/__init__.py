"""FHIRPath functions, one module per chapter of the specification."""
