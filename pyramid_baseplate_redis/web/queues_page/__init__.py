"""The queues page: numbers, messages and dead letters of the application's queues, in HTML."""
