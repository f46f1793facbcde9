"""RESTful interactions, one file per verb (https://hl7.org/fhir/R4/http.html)."""
