"""What travels: subjects, messages, statuses, errors and the manifest. No input or output happens here."""
