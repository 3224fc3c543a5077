"""Every bound that the documents promise, under each fault, with the time measured."""
