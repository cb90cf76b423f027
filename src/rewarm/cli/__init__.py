"""The terminal: the same verbs, words and files as everywhere else. Only this package knows both towers."""
