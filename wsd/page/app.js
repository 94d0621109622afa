// The built-in page: a counter, a drawing board, a console.  What a peer sent is only ever put in as text.

const COUNTER = "dumb-increment-protocol";
const MIRROR = "lws-mirror-protocol";
const RECONNECT_MS = 3000;

const byId = (id) => document.getElementById(id);

// The page may lie below a path of a proxy, so addresses are relative to it; http becomes ws, https becomes wss.
function socketUrl(path) {
  const url = new URL(path.replace(/^\/+/, ""), new URL(".", location.href));
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  url.hash = "";
  return url.href;
}

function setState(element, state, text = state) {
  element.dataset.state = state;
  element.textContent = text;
}

function describeClose(event) {
  const reason = event.reason ? ` “${event.reason}”` : "";
  return `closed with ${event.code}${reason}`;
}

// Keeps one connection of a protocol open; tries again after a while as long as the page is looked at.
class Connection {
  constructor(protocol, path, stateElement, { onOpen, onMessage, onClose }) {
    Object.assign(this, { protocol, path, stateElement, onOpen, onMessage, onClose });
    this.open();
  }

  open() {
    setState(this.stateElement, "connecting");
    const socket = new WebSocket(socketUrl(this.path), this.protocol);
    this.socket = socket;
    socket.onopen = () => {
      setState(this.stateElement, "open");
      this.onOpen();
    };
    socket.onmessage = (event) => this.onMessage(event.data);
    socket.onclose = (event) => {
      setState(this.stateElement, "failed", `${describeClose(event)}, trying again`);
      this.onClose();
      setTimeout(() => this.retry(), RECONNECT_MS);
    };
  }

  retry() {
    if (document.visibilityState === "visible") {
      this.open();
    } else {
      document.addEventListener("visibilitychange", () => this.retry(), { once: true });
    }
  }

  send(text) {
    if (this.socket.readyState === WebSocket.OPEN) {
      this.socket.send(text);
    }
  }
}

// -- the counter ------------------------------------------------------------------------------------------------------

function startCounter() {
  const value = byId("counter-value");
  const reset = byId("counter-reset");
  const connection = new Connection(COUNTER, "", byId("counter-state"), {
    onOpen: () => { reset.disabled = false; },
    onMessage: (data) => { value.textContent = String(data).slice(0, 20); },
    onClose: () => { reset.disabled = true; },
  });
  reset.addEventListener("click", () => connection.send("reset\n"));
}

// -- the drawing board --------------------------------------------------------------------------------------------

// The board measures 480 by 300, as libwebsockets' does; the canvas has twice the pixels.
const BOARD_WIDTH = 480;
const BOARD_HEIGHT = 300;
const PEN_STEP = 6;

// `d #rrggbb x1 y1 x2 y2;` is a line, `c #rrggbb x y r;` a circle; a message may hold several.
function parseDrawing(text) {
  const shapes = [];
  for (const command of text.split(";")) {
    const [kind, color, ...words] = command.trim().split(/\s+/);
    const numbers = words.map(Number);
    const wanted = { d: 4, c: 3 }[kind];
    if (wanted === numbers.length && /^#[0-9a-f]{6}$/i.test(color) && numbers.every(Number.isFinite)) {
      shapes.push({ kind, color, numbers });
    }
  }
  return shapes;
}

function startBoard() {
  const canvas = byId("board-canvas");
  const color = byId("board-color");
  const count = byId("board-count");
  const pen = canvas.getContext("2d");
  let lines = 0;
  let last = null; // where the pointer is down
  let keyboard = { x: BOARD_WIDTH / 2, y: BOARD_HEIGHT / 2 };

  pen.scale(canvas.width / BOARD_WIDTH, canvas.height / BOARD_HEIGHT);
  pen.lineWidth = 2;
  pen.lineCap = "round";

  function draw({ kind, color: stroke, numbers }) {
    pen.strokeStyle = stroke;
    pen.beginPath();
    if (kind === "d") {
      pen.moveTo(numbers[0], numbers[1]);
      pen.lineTo(numbers[2], numbers[3]);
    } else {
      pen.arc(numbers[0], numbers[1], Math.abs(numbers[2]), 0, 2 * Math.PI);
    }
    pen.stroke();
  }

  function countLines(number) {
    lines = number;
    count.dataset.lines = String(lines);
    count.textContent = `${lines} ${lines === 1 ? "line" : "lines"}`;
  }

  // A room of its own by ?mirror=NAME in the page's address, as the protocol has it.
  const room = new URLSearchParams(location.search).get("mirror");
  const path = room === null ? "" : `?mirror=${encodeURIComponent(room)}`;
  const connection = new Connection(MIRROR, path, byId("board-state"), {
    onOpen: () => {},
    onMessage: (data) => {
      if (typeof data === "string") {
        const shapes = parseDrawing(data);
        shapes.forEach(draw);
        countLines(lines + shapes.length);
      }
    },
    onClose: () => {},
  });

  // Drawn when it comes back, like everybody's: what is seen is what the others see.
  function line(from, to) {
    const place = [from.x, from.y, to.x, to.y].map(Math.round).join(" ");
    connection.send(`d ${color.value} ${place};`);
  }

  function position(event) {
    const box = canvas.getBoundingClientRect();
    return {
      x: ((event.clientX - box.left) * BOARD_WIDTH) / box.width,
      y: ((event.clientY - box.top) * BOARD_HEIGHT) / box.height,
    };
  }

  canvas.addEventListener("pointerdown", (event) => {
    last = position(event);
    canvas.setPointerCapture(event.pointerId);
    line(last, last);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (last !== null) {
      const next = position(event);
      line(last, next);
      last = next;
    }
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, () => { last = null; });
  }
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (step === undefined) {
      return;
    }
    event.preventDefault();
    const next = {
      x: Math.min(BOARD_WIDTH, Math.max(0, keyboard.x + step[0] * PEN_STEP)),
      y: Math.min(BOARD_HEIGHT, Math.max(0, keyboard.y + step[1] * PEN_STEP)),
    };
    if (!event.shiftKey) {
      line(keyboard, next);
    }
    keyboard = next;
  });
  byId("board-clear").addEventListener("click", () => {
    pen.clearRect(0, 0, BOARD_WIDTH, BOARD_HEIGHT);
    countLines(0);
  });
}

// -- the console -------------------------------------------------------------------------------------------------------

const LOG_ENTRIES = 200;
const SHOWN_CHARACTERS = 2000;
const ARROWS = { sent: "↑", received: "↓", note: "·", error: "!" };
const PING_TEXT = "ping";

const encoder = new TextEncoder();

function parseHex(text) {
  const digits = text.replace(/\s+/g, "");
  if (digits.length % 2 !== 0 || !/^[0-9a-f]*$/i.test(digits)) {
    throw new Error("hexadecimal digits come in pairs, for example: 00 ff 7f");
  }
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

function formatHex(bytes) {
  return Array.from(bytes.subarray(0, SHOWN_CHARACTERS / 3), (byte) => byte.toString(16).padStart(2, "0")).join(" ");
}

function timeOfDay(date) {
  const two = (number) => String(number).padStart(2, "0");
  const clock = [date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(":");
  return `${clock}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

function element(name, className, text) {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

class Log {
  constructor(list) {
    this.list = list;
  }

  add(direction, size, what) {
    const now = new Date();
    const entry = document.createElement("li");
    entry.dataset.direction = direction;
    const time = element("time", "", timeOfDay(now));
    time.dateTime = now.toISOString();
    const shown = what.length > SHOWN_CHARACTERS ? `${what.slice(0, SHOWN_CHARACTERS)} …` : what;
    entry.append(time, element("span", "direction", ARROWS[direction]), element("span", "size", size),
      element("span", "what", shown));
    const list = this.list;
    const follows = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
    list.append(entry);
    while (list.childElementCount > LOG_ENTRIES) {
      list.firstElementChild.remove();
    }
    if (follows) {
      list.scrollTop = list.scrollHeight;
    }
  }

  note(text) {
    this.add("note", "", text);
  }

  error(text) {
    this.add("error", "", text);
  }
}

class Console {
  constructor() {
    this.log = new Log(byId("console-log"));
    this.socket = null;
    this.pingSent = null; // when, by performance.now()
    this.onSubmit("console-form", () => this.connect());
    this.onSubmit("console-send-form", () => this.send());
    this.onSubmit("console-close-form", () => this.close());
    byId("console-ping").addEventListener("click", () => this.ping());
    byId("console-clear").addEventListener("click", () => this.log.list.replaceChildren());
    byId("console-text").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        this.guard(() => this.send());
      }
    });
  }

  // What the browser refuses (a bad URL, a code that may not be sent) is shown and changes nothing.
  guard(action) {
    try {
      action();
    } catch (error) {
      this.log.error(error.message);
    }
  }

  onSubmit(id, action) {
    byId(id).addEventListener("submit", (event) => {
      event.preventDefault();
      this.guard(action);
    });
  }

  enable() {
    const isOpen = this.socket !== null && this.socket.readyState === WebSocket.OPEN;
    for (const id of ["console-send", "console-ping", "console-close"]) {
      byId(id).disabled = !isOpen;
    }
    byId("console-connect").disabled = this.socket !== null;
  }

  connect() {
    const url = socketUrl(byId("console-path").value.trim());
    const protocol = byId("console-protocol").value;
    const socket = protocol === "" ? new WebSocket(url) : new WebSocket(url, protocol);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    setState(byId("console-state"), "connecting");
    this.log.note(`connecting to ${url}`);
    socket.onopen = () => {
      setState(byId("console-state"), "open", socket.protocol ? `open: ${socket.protocol}` : "open");
      this.log.note(`open, the server chose ${socket.protocol || "no subprotocol"}`);
      this.enable();
    };
    socket.onmessage = (event) => this.received(event.data);
    socket.onerror = () => this.log.error("the connection failed; the daemon's log at level info says why");
    socket.onclose = (event) => {
      const how = `${describeClose(event)}${event.wasClean ? "" : ", not cleanly"}`;
      setState(byId("console-state"), event.wasClean ? "closed" : "failed", how);
      this.log.note(how);
      this.socket = null;
      this.pingSent = null;
      this.enable();
    };
    this.enable();
  }

  received(data) {
    if (this.pingSent !== null) {
      const milliseconds = performance.now() - this.pingSent;
      this.pingSent = null;
      byId("console-rtt").textContent = `next message after ${milliseconds.toFixed(1)} ms`;
    }
    if (typeof data === "string") {
      this.log.add("received", `${encoder.encode(data).length} B`, data);
    } else {
      this.log.add("received", `${data.byteLength} B hex`, formatHex(new Uint8Array(data)));
    }
  }

  send() {
    const text = byId("console-text").value;
    const isBinary = byId("console-type").value === "binary";
    const bytes = isBinary ? parseHex(text) : encoder.encode(text);
    if (this.socket === null || this.socket.readyState !== WebSocket.OPEN) {
      throw new Error("not connected");
    }
    this.socket.send(isBinary ? bytes : text);
    this.log.add("sent", `${bytes.length} B${isBinary ? " hex" : ""}`, isBinary ? formatHex(bytes) : text);
  }

  ping() {
    this.pingSent = performance.now();
    byId("console-rtt").textContent = "waiting for a message";
    this.socket.send(PING_TEXT);
    this.log.add("sent", `${PING_TEXT.length} B`, PING_TEXT);
  }

  close() {
    if (this.socket !== null) {
      this.socket.close(Number(byId("console-code").value), byId("console-reason").value);
      setState(byId("console-state"), "closing");
    }
  }
}

// -- start ------------------------------------------------------------------------------------------------------------

async function start() {
  new Console();
  let served;
  try {
    const answer = await fetch("protocols.json");
    served = await answer.json();
  } catch (error) {
    byId("page-notice").textContent = `The list of protocols could not be read: ${error.message}`;
    byId("page-notice").hidden = false;
    return;
  }
  const select = byId("console-protocol");
  for (const name of served.protocols) {
    select.add(new Option(name, name));
  }
  if (served.default !== null) {
    select.value = served.default;
  }
  const parts = [[COUNTER, startCounter, "counter-state"], [MIRROR, startBoard, "board-state"]];
  for (const [protocol, begin, state] of parts) {
    if (served.protocols.includes(protocol)) {
      begin();
    } else {
      setState(byId(state), "closed", "not served by this listener");
    }
  }
}

start();
