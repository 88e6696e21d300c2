"""An SMTP server that prints each received mail as a mail client parses it.

    python mail_server.py plain|starttls|smtps CERTIFICATE KEY [NAME PASSWORD]

Prints the port, then a line of JSON for each mail. SVG parts are rendered by resvg.
"""

import email
import email.policy
import io
import json
import logging
import ssl
import sys

import resvg_py
from PIL import Image
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

MODE, CERTIFICATE, NAME = sys.argv[1], sys.argv[2:4], sys.argv[4:6]


def print_json(value):
    print(json.dumps(value), flush=True)


class Handler:
    async def handle_DATA(self, server, session, envelope):
        encrypted = server.transport.get_extra_info("ssl_object") is not None
        print_json(parse_mail(envelope, session, encrypted))
        return "250 queued as 7"


def parse_mail(envelope, session, encrypted):
    mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
    parts = list(mail.walk())
    drawings = [part for part in parts if part.get_content_type() == "image/svg+xml"]
    return {
        "from": envelope.mail_from,
        "to": envelope.rcpt_tos,
        "hello": session.host_name,
        "encrypted": encrypted,
        "headers": {name.lower(): str(value) for name, value in mail.items()},
        "structure": [part.get_content_type() for part in parts],
        "defects": [str(defect) for part in parts for defect in part.defects],
        "text": mail.get_body(("plain",)).get_content(),
        "html": mail.get_body(("html",)).get_content(),
        "drawings": [
            {
                "content_id": part["content-id"],
                "disposition": part.get_content_disposition(),
                "file": part.get_filename(),
                "colours": colours(part.get_content()),
            }
            for part in drawings
        ],
    }


def colours(svg):
    """Number of colours in the rendered image: more than one if something is drawn."""
    text = svg if isinstance(svg, str) else svg.decode()
    png = bytes(resvg_py.svg_to_bytes(svg_string=text))
    picture = Image.open(io.BytesIO(png))
    return len(picture.getcolors(maxcolors=picture.width * picture.height))


def authenticate(server, session, envelope, mechanism, data):
    is_known = [data.login.decode(), data.password.decode()] == NAME
    return AuthResult(success=is_known, handled=False)


# aiosmtpd warns about authentication without TLS.
logging.disable()
options = {}
if MODE != "plain":
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*CERTIFICATE)
    options["ssl_context" if MODE == "smtps" else "tls_context"] = context
if NAME:
    options.update(authenticator=authenticate, auth_required=True, auth_require_tls=False)


class Server(Controller):
    def _trigger_server(self):
        # The port is assigned when the socket is bound.
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


server = Server(Handler(), hostname="127.0.0.1", port=0, **options)
server.start()
print_json(server.port)
sys.stdin.read()
server.stop()
