"""What a WSGI server serves: `gunicorn wsgi:app`. `tidings up` and `tidings web` start gunicorn themselves."""

from app import create_app

app = create_app()
