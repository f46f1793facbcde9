"""SQL on FHIR: https://build.fhir.org/ig/FHIR/sql-on-fhir-v2/"""
