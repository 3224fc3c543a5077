"""The page of the board, and the form that adds a message."""

from pyramid.httpexceptions import HTTPSeeOther
from pyramid.view import view_config
from sqlalchemy import select

from .likes import count_likes
from .models import Message
from .statistics import busiest_authors


@view_config(route_name="home", request_method="GET", renderer="templates/home.jinja2")
def home(request):
    latest = select(Message).order_by(Message.id.desc()).limit(20)
    messages = request.dbsession.scalars(latest).all()
    return {
        "messages": messages,
        "likes": count_likes(request.store, messages),
        "authors": busiest_authors(request.dbsession),
    }


@view_config(route_name="home", request_method="POST")
def post(request):
    author = request.POST.get("author", "").strip()
    text = request.POST.get("text", "").strip()
    if author and text:
        request.dbsession.add(Message(author=author, text=text))
        request.session["author"] = author
        request.session.flash("Your message is on the board.")
    return HTTPSeeOther(request.route_url("home"))
