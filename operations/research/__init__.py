"""The clinical data bank: a second store, de-identified, fed from the record by consent."""
