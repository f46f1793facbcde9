"""FHIRPath (http://hl7.org/fhirpath/N1): parse to an AST, evaluate over JSON resources."""
