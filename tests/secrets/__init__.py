"""No password is shown in errors, logs, spans, metrics, objects, pages or the output of predis."""
