"""What patients decide: templates of Consents, and how they are said in plain words."""
