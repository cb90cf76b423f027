"""What the server does by itself: it schedules runs, reads their records, sends mail, cleans up."""
