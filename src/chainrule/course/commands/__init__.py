"""Commands of the tool: the site, the audit, the files of a new document."""
