"""Write a new password for the application, and the server's list of users with its hash."""

import hashlib
import os
import secrets

password = secrets.token_urlsafe(32)
digest = hashlib.sha256(password.encode()).hexdigest()
os.umask(0o077)
with open("redis_password", "w") as file:
    file.write(password)
with open("users.acl", "w") as file:
    file.write(f"user default off\nuser myapp on #{digest} ~* &* +@all\n")
