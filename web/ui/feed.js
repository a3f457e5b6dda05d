// The connection to the server: its stream of events, and the answers that it does not push. It
// mends itself: whatever ends the stream, another one is tried until one works.

const RETRY_FIRST_MS = 500;
const RETRY_MAX_MS = 4000;
const SILENCE_MS = 8000; // a sample comes every second
const REQUEST_MS = 8000;

export async function get(path) {
	const answer = await fetch(path, {
		headers: { Accept: "application/json" }, cache: "no-store", signal: AbortSignal.timeout(REQUEST_MS),
	});
	if (!answer.ok) {
		throw new Error(`${path}: ${answer.status}`);
	}
	return answer.json();
}

function parsed(message) {
	try {
		return JSON.parse(message.data);
	} catch {
		return null; // what is no JSON is no news
	}
}

// `on` has hello, stats, event, missed (each with its data), and state("live" or "lost").
export class Feed {
	constructor(on) {
		this.on = on;
		this.delay = RETRY_FIRST_MS;
		this.source = null;
		this.timer = null;
	}

	start() {
		clearTimeout(this.timer);
		this.source = new EventSource("/events");
		this.source.onerror = () => this.lose();
		for (const name of ["hello", "stats", "event", "missed"]) {
			this.source.addEventListener(name, (message) => {
				const data = parsed(message);
				this.watch();
				if (data !== null) {
					this.on[name](data);
				}
				if (name === "stats") {
					this.delay = RETRY_FIRST_MS;
					this.on.state("live");
				}
			});
		}
		this.watch();
	}

	watch() {
		clearTimeout(this.timer);
		this.timer = setTimeout(() => this.lose(), SILENCE_MS);
	}

	lose() {
		this.source.close();
		this.on.state("lost");
		clearTimeout(this.timer);
		this.timer = setTimeout(() => this.start(), this.delay);
		this.delay = Math.min(this.delay * 2, RETRY_MAX_MS);
	}
}
