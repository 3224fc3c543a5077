"""The mails to the moderator. The worker calls :func:`handle` with each message of the queue."""

import logging
import smtplib
from email.message import EmailMessage

from .models import Message

logger = logging.getLogger(__name__)


def handle(request, job):
    message = request.dbsession.get_one(Message, job.json["message"])
    settings = request.registry.settings
    mail = EmailMessage()
    mail["From"] = mail["To"] = settings["mail.moderator"]
    mail["Subject"] = f"Message {message.id} on the board"
    mail.set_content(f"{message.author} wrote: {message.text}")
    send(mail, settings.get("mail.host"))


def send(mail: EmailMessage, host: str | None) -> None:
    """Send the mail, or log it if there is no mail server."""
    if host is None:
        logger.info("%s: %s", mail["Subject"], mail.get_content().strip())
        return
    with smtplib.SMTP(host, timeout=10) as server:
        server.send_message(mail)
