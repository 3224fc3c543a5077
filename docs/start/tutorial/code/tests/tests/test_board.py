"""Post a message, like it, and look at the page."""

from pyramid_baseplate_redis.testing import plain_client


def post(testapp, author="Ada", text="Hello"):
    form = testapp.get("/").forms["post"]
    form["author"], form["text"] = author, text
    return form.submit().follow()


def test_a_message_is_on_the_board(testapp):
    page = post(testapp)
    assert "Your message is on the board." in page
    assert "Hello" in page


def test_the_board_remembers_the_name(testapp):
    assert post(testapp).forms["post"]["author"].value == "Ada"


def test_likes_are_counted(testapp):
    page = post(testapp)
    for _ in range(2):
        page = page.forms[1].submit().follow()
    assert "</button> 2" in page


def test_sessions_expire(app, testapp):
    post(testapp)
    redis = plain_client(app, "store")
    (key,) = redis.keys("session:*")
    assert 0 < redis.ttl(key) <= 20 * 60


def test_the_page_takes_four_round_trips(testapp, recorded_spans):
    post(testapp)
    recorded_spans.clear()
    testapp.get("/")
    assert recorded_spans.tree() == [
        ("GET /", None),
        ("store.ZMSCORE", "GET /"),
        ("cache.GET", "GET /"),
        ("store.GET", "GET /"),
        ("store.SETEX", "GET /"),
    ]
