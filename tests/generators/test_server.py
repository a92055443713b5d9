"""A server is asked over real HTTP: what may pass is tried again and counted, what may not is said."""

import pickle

import pytest
from generation_server import GenerationServer, completion

from annotate import ConfigError, WorkError
from annotate.generators import Price, Request, Sampling, ServerGenerator, server_answers, server_client
from annotate.generators.server_client import body

SECRET = "a-key-that-nobody-may-see"  # pragma: allowlist secret


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(server_client, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(server_client, "LONGEST_WAIT", 0.01)


def requests(n):
    return [Request("Be brief.", f"Opening {i}", i) for i in range(n)]


def complete(server, asked, **settings):
    return ServerGenerator(server.url, "a-model", **settings).load("cpu").complete(asked)


def test_openings_are_completed_in_their_order_several_at_a_time():
    with GenerationServer(pause=0.02) as server:
        settings = {"requests": 5, "sampling": Sampling(max_tokens=9, temperature=0.5, seed=3), "extra": {"top_k": 4}}
        found = complete(server, requests(20), **settings)
        generator = ServerGenerator(server.url, "a-model", **settings)
        assert list(found.texts) == [completion(body(generator, request)) for request in requests(20)]
        assert 1 < server.most <= 5
        path, headers, asked = min(server.asked, key=lambda one: one[2]["prompt"])  # they come in any order
    assert path == "/v1/completions" and "Authorization" not in headers
    assert asked["prompt"] == "Be brief.\n\nOpening 0"
    assert (asked["max_tokens"], asked["temperature"], asked["top_k"], asked["stream"]) == (9, 0.5, 4, False)
    assert len({asked["seed"] for _, _, asked in server.asked}) == 20
    assert (found.prompt_tokens, found.tokens.tolist(), found.counts) == (140, [5] * 20, {})


def test_a_chat_goes_on_with_the_answer_that_the_opening_begins():
    with GenerationServer() as server:
        complete(server, requests(1), user="Write.")
        complete(server, [Request("", "", 1)], user="Write.")
        (path, _, asked), (_, _, bare) = server.asked
    assert path == "/v1/chat/completions"
    said = [(message["role"], message["content"]) for message in asked["messages"]]
    assert said == [("system", "Be brief."), ("user", "Write."), ("assistant", "Opening 0")]
    assert asked["continue_final_message"] is True and asked["add_generation_prompt"] is False
    assert bare["messages"] == [{"role": "user", "content": "Write."}] and "continue_final_message" not in bare


def test_without_prefill_an_answer_is_put_behind_the_opening():
    long = "This opening is rather long"
    answers = [{"message": {"content": text}} for text in ("and so on.", "\nand so on.", f"{long} and so on.")]
    with GenerationServer(answers) as server:
        asked = [Request("Be brief.", long, i) for i in range(3)]
        found = complete(server, asked, user="Go on with:", prefill=False, requests=1)
        assert server.asked[0][2]["messages"][1] == {"role": "user", "content": f"Go on with:\n\n{long}"}
    assert list(found.texts) == [" and so on.", "\nand so on.", " and so on."]


PASSING = {
    500: "status 500",
    503: "status 503",
    408: "status 408",
    429: "too many requests",
    "reset": "no connection",
    "cut": "answer cut off",
    "half": "half an answer",
    "stall": "time-out",
}


@pytest.mark.parametrize("fault", PASSING)
def test_what_may_pass_is_tried_again_and_counted(fault):
    with GenerationServer([fault, "ok", fault]) as server:
        found = complete(server, requests(4), requests=1, timeout=0.5 if fault == "stall" else 20)
        expected = complete(server, requests(4))
        assert len(server.asked) == 4 + 2 + 4
    assert list(found.texts) == list(expected.texts) and not found.problems
    assert found.counts == {f"requests tried again: {PASSING[fault]}": 2}


def test_many_faults_at_once_lose_and_double_nothing():
    faults = [500, "ok", "reset", "cut", (429, "0"), "half", "ok", 503] * 10
    with GenerationServer(faults) as server:
        found = complete(server, requests(60), requests=12, tries=30)
        assert len(server.asked) == 60 + sum(found.counts.values())
        assert list(found.texts) == list(complete(server, requests(60)).texts)


@pytest.mark.parametrize("asks", ["0.3", "date"])
def test_the_wait_that_a_server_asks_for_is_kept(asks, monkeypatch):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    monkeypatch.setattr(server_client.asyncio, "sleep", sleep)
    wait = "Sun, 06 Nov 2130 08:49:37 GMT" if asks == "date" else asks
    with GenerationServer([(429, wait)]) as server:
        complete(server, requests(1))
    assert slept == [server_client.LONGEST_ASKED if asks == "date" else 0.3]


def test_a_server_that_stays_away_ends_the_run():
    with (
        GenerationServer([503] * 3) as server,
        pytest.raises(WorkError, match=r"failed 3 times in .*: status 503: stat") as error,
    ):
        complete(server, requests(1), tries=3)
    assert "What is committed stays" in error.value.hint
    with pytest.raises(WorkError, match=r"failed 2 times in .*: no connection"):
        complete(server, requests(2), tries=2)


ANSWERS = {
    "filter": ({"finish_reason": "content_filter"}, "the server refused to complete it, by its content filter"),
    "refusal": (
        {"message": {"content": None, "refusal": "I can't\nsay that."}},
        "the server refused to complete it: I can't say that.",
    ),
    "status": (400, "the server refused to complete it: status 400, no, says 400"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_what_the_server_refuses_is_a_problem_of_its_document(name):
    fault, problem = ANSWERS[name]
    with GenerationServer(["ok", fault, "ok"]) as server:
        found = complete(server, requests(3), requests=1, user="Write." if name == "refusal" else None)
        assert len(server.asked) == 3
    assert found.problems == {1: problem}
    assert [text is None for text in found.texts] == [False, True, False]


def test_a_completion_may_be_cut_off():
    with GenerationServer(["ok", {"finish_reason": "length"}]) as server:
        assert complete(server, requests(2), requests=1).cut_off.tolist() == [False, True]


@pytest.mark.parametrize(
    ("faults", "error"),
    [
        ([400] * 4, "refuses all of 3 requests, and a short one without a prompt; the first: status 400, no, says 400"),
        ([402], "wants to be paid: status 402"),
        ([451], "answers what no completion is answered with: status 451"),
        ([404], "has no http://.*/v1/completions, or no model 'a-model': status 404"),
        ([401], "does not let us in: status 401"),
        ([307], "has no http://.*, or no model"),
    ],
)
def test_what_no_request_would_get_past_is_an_error(faults, error):
    with GenerationServer(faults) as server, pytest.raises(ConfigError, match=error):
        complete(server, requests(3), requests=1)


def test_an_answer_may_come_in_pieces_and_be_large(monkeypatch):
    with GenerationServer(["pieces", "large"]) as server:
        found = complete(server, requests(2), requests=1)
        assert found.texts[0].startswith(" Written") and len(found.texts[1]) == 400_000 and not found.problems
        monkeypatch.setattr(server_answers, "MOST_BYTES", 300_000)
        server.faults = ["ok", "large"]
        found = complete(server, requests(2), requests=1)
        assert found.problems == {1: "the server refused to complete it: its answer has more than 300,000 bytes"}


def answer(fields, usage='{"prompt_tokens": 7, "completion_tokens": 5}'):
    return f'{{"choices": [{{"finish_reason": "stop", {fields}}}], "usage": {usage}}}'.encode()


LASTING = {
    "infinite": answer('"text": "a"', '{"prompt_tokens": 1e999}'),
    "huge": answer('"text": "a"', '{"completion_tokens": 1099511627776}'),
    "negative": answer('"text": "a"', '{"prompt_tokens": -1}'),
    "deep": b"[" * 100_000,
    "not text": answer('"text": 5'),
    "crash": 500,
    "gateway": 504,
    "reset": "reset",
}


@pytest.mark.parametrize("name", LASTING)
def test_what_fails_each_time_for_one_document_is_its_problem(name):
    with GenerationServer(lambda asked: LASTING[name] if "Opening 0" in asked["prompt"] else "ok") as server:
        found = complete(server, requests(2), requests=1, tries=2)
    assert found.texts[0] is None and found.texts[1]
    assert found.problems.keys() == {0}
    assert found.problems[0].startswith("the server failed 3 times with it, and not with another: ")
    assert found.counts["short requests to see whether the server is well"] == 1


def test_a_server_that_is_ill_for_a_while_makes_no_document_a_problem():
    with GenerationServer([500, 500, "ok", "ok"]) as server:  # well again when it is asked for a short text
        found = complete(server, requests(1), tries=2)
        assert found.texts[0] and not found.problems and len(server.asked) == 4
        server.faults = [500] * 3
        with pytest.raises(WorkError, match="failed 2 times"):
            complete(server, requests(1), tries=2)
        server.faults = [500, 500, "ok", 503]
        with pytest.raises(WorkError, match="failed 2 times"):
            complete(server, requests(1), tries=2)


def test_a_text_that_is_no_unicode_is_a_problem_of_its_document():
    refusal = answer('"message": {"content": null, "refusal": "no \\ud800"}')
    with GenerationServer([answer('"text": "a\\ud800"'), refusal]) as server:
        found = complete(server, requests(2), requests=1)
    assert found.problems == {0: server_answers.NO_UNICODE, 1: "the server refused to complete it: no ?"}


def test_a_message_without_content_is_an_empty_completion():
    nothing = {"message": {"role": "assistant", "content": None}, "finish_reason": "length"}
    with GenerationServer([nothing]) as server:
        found = complete(server, requests(1), user="Write.")
    assert (found.texts, found.cut_off.tolist(), found.counts) == ([""], [True], {})


@pytest.mark.parametrize("documents", [1, 3])
def test_openings_that_a_server_refuses_are_no_wrong_setting_if_it_takes_a_short_one(documents):
    with GenerationServer(lambda asked: 400 if "Opening" in asked["prompt"] else "ok") as server:
        assert complete(server, requests(documents)).problems.keys() == {*range(documents)}
        assert len(server.asked) == documents + 1
        server.faults = lambda asked: 400
        with pytest.raises(ConfigError, match="and a short one without a prompt"):
            complete(server, requests(documents))


def test_the_key_is_in_the_header_and_nowhere_else(monkeypatch):
    with GenerationServer(["ok", 403]) as server:
        generator = ServerGenerator(server.url, "a-model", key_from="A_KEY")
        with pytest.raises(ConfigError, match=r"A_KEY, which is to have the key for .* is not set"):
            generator.load("cpu")
        monkeypatch.setenv("A_KEY", f"{SECRET}\nmore")
        with pytest.raises(ConfigError, match=r"A_KEY, which is to have the key for .* has characters"):
            generator.load("cpu")
        monkeypatch.setenv("A_KEY", f"{SECRET}\n")  # as a file of secrets has it
        client = generator.load("cpu")
        found = client.complete(requests(1))
        assert server.asked[0][1]["Authorization"] == f"Bearer {SECRET}"
        with pytest.raises(ConfigError, match="does not let us in") as error:
            client.complete(requests(1))  # the server repeats the key
    for said in (generator.identity(), generator, found, error.value, pickle.dumps(generator)):
        assert SECRET not in str(said)
    assert "***" in str(error.value)


def test_neither_address_nor_key_nor_pace_is_in_the_identity():
    generator = ServerGenerator("http://here/v1", "a-model")
    other = ServerGenerator(
        "https://there/v1", "a-model", key_from="K", requests=2, timeout=5, tries=2, price=Price(read=1, written=2)
    )
    assert generator.identity() == other.identity()
    for settings in ({"revision": "2"}, {"user": "x"}, {"extra": {"top_k": 5}}, {"sampling": Sampling(seed=1)}):
        assert ServerGenerator("http://here/v1", "a-model", **settings).identity() != generator.identity()


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"url": "localhost:8000"}, "must begin with http"),
        (
            {"url": f"https://me:{SECRET}@host/v1"},
            r"no credential in it, got 'https://\*\*\*@host/v1'",
        ),  # pragma: allowlist secret
        ({"url": "https://host/v1?key=1"}, r"no query and no credential in it, got 'https://host/v1'"),
        ({"key_from": "sk-1234"}, "must be the name of an environment variable"),
        ({"requests": 0}, "must be above 0"),
        ({"prefill": False}, "prefill=False is for a chat"),
        ({"extra": {"max_tokens": 5}}, "extra has the field 'max_tokens', which follows from"),
        ({"extra": {"max_completion_tokens": 5}}, "extra has the field 'max_completion_tokens', which follows from"),
        ({"extra": {"n": 2}}, "extra has the field 'n': one whole completion"),
        ({"extra": {"top_k": float("nan")}}, "extra must be fields of a request, as JSON"),
        ({"extra": {"bias": {1, 2}}}, "extra must be fields of a request, as JSON"),
        ({"extra": ["top_k"]}, "extra must be fields of a request, as JSON"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, error):
    with pytest.raises(ConfigError, match=error):
        ServerGenerator(**{"url": "http://here/v1", "model": "a-model"} | settings)
