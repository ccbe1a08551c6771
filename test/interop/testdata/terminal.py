"""A foreign terminal: Autobahn|Python uses a shell on a device as it is told, one
JSON order a line on the standard input, and answers one JSON line each.

    SECRET=... terminal.py URL REALM AUTHID SERIALIZER SERIAL

    {"open": CONTAINER}             -> {"opened": {"dataTopic": ..., ...}}; "" is the device's own shell
    {"overhear": SESSION}           -> {"opened": SESSION}: only listens, to somebody else's
    {"type": TEXT}                  -> {"typed": true}
    {"resize": [HEIGHT, WIDTH]}     -> {"resized": true}
    {"flow": true, "slow": MS}      -> {"flows": true}: flow control from now on, so long for each event
    {"until": TEXT, "within": S}    -> {"found": true, "output": TEXT}: what came, up to that text
    {"stop": true}                  -> {"stopped": true}
    {"report": true}                -> {"events": N, "bytes": N, "ends": N, "gaps": N, "broken": N, "longest": N}

Whatever fails is {"error": URI, "args": [...]}. The first line is {"joined": {...}}
or {"refused": TEXT}.
"""
import asyncio
import base64
import json
import os
import sys
import time

from autobahn.asyncio.component import Component
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import PublishOptions

url, realm, authid, serializer, serial = sys.argv[1:6]
secret = os.environ["SECRET"]
END = b"TERMINAL_EOF"


def say(**what):
    print(json.dumps(what, default=repr), flush=True)


def procedure(name):
    return f"re.mgmt.{serial}.{name}"


component = Component(
    transports=[{"type": "websocket", "url": url, "serializers": [serializer], "max_retries": 0}],
    realm=realm,
    authentication={"wampcra": {"authid": authid, "secret": secret}},
)


class Terminal:
    def __init__(self, session):
        self.session = session
        self.at = None
        self.of_container = False
        self.output = bytearray()  # not yet asked for
        self.came = asyncio.Event()
        self.flows = False
        self.slow = 0.0
        self.next = 0
        self.told = 0
        self.asked = 0.0
        self.events = self.bytes = self.ends = self.gaps = self.broken = self.longest = 0

    async def open(self, container):
        self.of_container = container != ""
        if container:
            self.at = await self.session.call(procedure("request_terminal_session"), {"containerName": container})
        else:
            self.at = await self.session.call(procedure("init_device_terminal"))
        await self.session.subscribe(self.data, self.at["dataTopic"])
        if container:
            await self.session.call(procedure("start_terminal_session"), {"sessionID": self.at["sessionID"], "registrationID": 17})
        return self.at

    async def overhear(self, at):
        self.at, self.of_container = at, "term_data" in at["dataTopic"]
        await self.session.subscribe(self.data, self.at["dataTopic"])

    def data(self, *args, **kwargs):
        """An output event."""
        self.events += 1
        if not args:
            self.broken += 1
            return
        data = args[0]
        if self.of_container:
            data = bytes(data) if isinstance(data, (bytes, bytearray)) else base64.b64decode(data.lstrip("\0"))
        elif isinstance(data, str):
            self.broken += data.count("\ufffd")
            data = data.encode()
        else:
            self.broken += 1
        self.longest = max(self.longest, len(data))
        end = data == END
        if self.slow:
            time.sleep(self.slow)  # and with it everything else: nothing is read meanwhile
        if self.flows:
            data = self.place(b"" if end else data, kwargs["offset"])
            end = end and data is not None
            if data is None:
                return
        if end:
            self.ends += 1
        else:
            self.bytes += len(data)
            self.output += data
        self.came.set()
        if self.flows and self.next - self.told >= 32768:
            self.tell({"received": self.next})

    def place(self, data, offset):
        if offset > self.next:
            self.gaps += 1
            if time.monotonic() - self.asked > 0.5:
                self.asked = time.monotonic()
                self.tell({"received": self.next, "resume": True})
            return None
        data = data[self.next - offset:]
        self.next += len(data)
        return data

    def tell(self, flow):
        self.told = flow["received"]
        self.session.publish(self.at["writeTopic"], "", **flow)  # nobody waits for it

    async def until(self, text, within):
        text = text.encode()
        deadline = time.monotonic() + within
        while True:
            at = self.output.find(text)
            if at >= 0:
                found = bytes(self.output[: at + len(text)])
                del self.output[: at + len(text)]
                return found
            self.came.clear()
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            try:
                await asyncio.wait_for(self.came.wait(), min(left, 2))
            except asyncio.TimeoutError:
                if self.flows:  # quiet: perhaps the last event is lost
                    self.tell({"received": self.next, "resume": True})

    async def obey(self, order):
        if "open" in order:
            say(opened=await self.open(order["open"]))
        elif "overhear" in order:
            await self.overhear(order["overhear"])
            say(opened=self.at)
        elif "type" in order:
            await self.session.publish(self.at["writeTopic"], order["type"], options=PublishOptions(acknowledge=True))
            say(typed=True)
        elif "resize" in order:
            height, width = order["resize"]
            await self.session.call(self.at["resizeTopic"], {"height": height, "width": width})
            say(resized=True)
        elif "flow" in order:
            self.flows, self.slow = True, order.get("slow", 0) / 1000
            self.output.clear()  # it comes again
            self.tell({"received": 0, "resume": True})
            say(flows=True)
        elif "until" in order:
            found = await self.until(order["until"], order.get("within", 60))
            left = found if found is not None else bytes(self.output[-2000:])
            say(found=found is not None, output=left.decode(errors="replace"))
        elif "stop" in order:
            await self.session.call(procedure("stop_terminal_session"), {"sessionID": self.at["sessionID"]})
            say(stopped=True)
        elif "report" in order:
            say(events=self.events, bytes=self.bytes, ends=self.ends, gaps=self.gaps, broken=self.broken, longest=self.longest)


@component.on_join
async def joined(session, details):
    say(joined={"realm": details.realm, "authid": details.authid, "authrole": details.authrole})
    terminal = Terminal(session)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        try:
            await terminal.obey(json.loads(line))
        except ApplicationError as e:
            say(error=e.error, args=list(e.args))
    session.leave()


async def main():
    try:
        await component.start(loop=asyncio.get_running_loop())
    except Exception as e:  # whatever the router's word for it is
        say(refused=repr(e))


asyncio.run(main())
