"""A stock Firefox in place of Playwright's page, as far as tests need it that run in both browsers.
It speaks WebDriver BiDi (https://w3c.github.io/webdriver-bidi) over a WebSocket."""

import json
import subprocess
import time

import websocket

KEYS = dict(Control="\ue009", Escape="\ue00c", Enter="\ue007", Delete="\ue017",
            ArrowLeft="\ue012", ArrowUp="\ue013", ArrowRight="\ue014", ArrowDown="\ue015")


class Firefox:
    """One page of width × height pixels, its profile in an empty folder."""

    def __init__(self, program, folder, env, url, width, height):
        command = program, "--headless", "--no-remote", "--remote-debugging-port=0", "--profile"
        self.process = subprocess.Popen([*command, folder], env=env, stderr=subprocess.DEVNULL)
        server, deadline = folder / "WebDriverBiDiServer.json", time.monotonic() + 60
        while not server.exists() or not server.read_text():
            assert self.process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        address = "ws://{ws_host}:{ws_port}/session".format(**json.loads(server.read_text()))
        self.socket = websocket.create_connection(address, timeout=60, suppress_origin=True)
        self.complaints, self.place, self.here = [], (0, 0), {}
        self.mouse = self.keyboard = self
        self.call("session.new", capabilities={})
        self.call("session.subscribe", events=["log.entryAdded"])
        (tab,) = self.call("browsingContext.getTree")["contexts"]
        self.here = dict(context=tab["context"])
        self.call("browsingContext.setViewport", viewport=dict(width=width, height=height))
        self.call("browsingContext.navigate", url=url, wait="complete")

    def call(self, method, **params):
        """The result of a command. What the page complains of meanwhile is kept."""
        self.socket.send(json.dumps(dict(id=1, method=method, params=self.here | params)))
        while (got := json.loads(self.socket.recv()))["type"] == "event":
            self.complaints.append(got["params"]["text"])
        assert got["type"] == "success", got
        return got["result"]

    def evaluate(self, script, argument=None):
        """An expression's value, or a function's of the argument; both as JSON."""
        script = f"""(async value => JSON.stringify(await (
            typeof value === "function" ? value({json.dumps(argument)}) : value)))({script})"""
        got = self.call("script.evaluate", expression=script, awaitPromise=True, target=self.here)
        assert got["type"] == "success", got
        return json.loads(got["result"].get("value", "null"))

    def act(self, kind, *actions, **more):
        source = dict(type=kind, id=kind, actions=actions) | more
        self.call("input.performActions", actions=[source])

    def touch(self, *steps):
        """Fingers; a step has the place of each one that touches the screen."""
        for before, now in zip([(), *steps], steps):
            for finger in range(max(len(before), len(now))):
                actions = [dict(type="pointerDown", button=0)] * (finger >= len(before))
                if finger < len(now):
                    x, y = map(round, now[finger])
                    actions.insert(0, dict(type="pointerMove", x=x, y=y))
                else:
                    actions = [dict(type="pointerUp", button=0)]
                self.act("pointer", *actions, id=f"finger {finger}",
                         parameters=dict(pointerType="touch"))

    def move(self, x, y, steps=1):
        (left, top), self.place = self.place, (x, y)
        self.act("pointer", *(dict(type="pointerMove", x=round(left + (x - left) * i / steps),
                                   y=round(top + (y - top) * i / steps))
                              for i in range(1, steps + 1)))

    def down(self, button="left"):
        self.act("pointer", dict(type="pointerDown", button=2 * (button == "right")))

    def up(self, button="left"):
        self.act("pointer", dict(type="pointerUp", button=2 * (button == "right")))

    def press(self, keys):
        keys = [KEYS.get(key, key) for key in keys.split("+")]
        self.act("key", *(dict(type="keyDown", value=key) for key in keys),
                 *(dict(type="keyUp", value=key) for key in reversed(keys)))

    def close(self):
        self.process.terminate()
        self.process.wait()
