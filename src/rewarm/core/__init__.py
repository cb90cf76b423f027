"""The ground of the house: errors, files, events and runs. Imports nothing of ours and nothing heavy."""
