// Clients, events, reasons of failures and workers: what is no chart.

import { $, $$, make, setAttribute, setText } from "/ui/dom.js";
import * as format from "/ui/format.js";

const EVENTS_SHOWN = 100;
const CLIENTS_SHOWN = 100;
const WARNINGS = ["refused", "degraded", "http_failed", "quota_reached", "traffic_not_saved",
	"socket_not_taken", "address_left_out", "certificate_renewal_failed", "open_to_everybody",
	"drain_failed", "revert_failed", "audit_failed"];

// The table's columns as the server sorts by them; numbers come with the largest first.
const COLUMNS = {
	name: { field: "name", first: "ascending" },
	address: { field: "last_address", first: "ascending" },
	connections: { field: "connections", first: "descending" },
	down: { field: "bytes_sent", first: "descending" },
	up: { field: "bytes_received", first: "descending" },
	seen: { field: "last_seen", first: "descending" },
};

function opposite(order) {
	return order === "ascending" ? "descending" : "ascending";
}

export class Clients {
	// `changed` is called when another order is wanted.
	constructor(changed) {
		this.key = "down";
		this.order = "descending";
		this.before = new Map();
		for (const head of $$("#clients th")) {
			$("button", head).addEventListener("click", () => {
				this.sort(head.dataset.key);
				changed();
			});
		}
		this.mark();
	}

	sort(key) {
		this.order = key === this.key ? opposite(this.order) : COLUMNS[key].first;
		this.key = key;
		this.mark();
	}

	mark() {
		for (const head of $$("#clients th")) {
			setAttribute(head, "aria-sort", head.dataset.key === this.key ? this.order : null);
		}
	}

	get path() {
		return `/clients?sort=${COLUMNS[this.key].field}&limit=${CLIENTS_SHOWN}`;
	}

	show(answer, now) {
		const list = [...answer.clients];
		const { field, first } = COLUMNS[this.key];
		list.sort((a, b) => this.compare(a[field], b[field], first) || a.name.localeCompare(b.name));
		if (this.order !== first) {
			list.reverse();
		}
		$("#clients tbody").replaceChildren(...list.map((client) => this.row(client, now)));
		this.before = new Map(list.map((client) => [client.name, { ...client, now }]));
		$("#clients-empty").hidden = answer.total > 0;
		$("#clients").hidden = answer.total === 0;
		setText($("#clients-count"), answer.total > list.length
			? `${format.count(list.length)} of ${format.count(answer.total)}` : "");
	}

	compare(a, b, first) {
		if (a == null || b == null) {
			return (a == null) - (b == null);
		}
		const order = typeof a === "string" ? a.localeCompare(b) : a - b;
		return first === "ascending" ? order : -order;
	}

	// A total with the rate since the last look under it.
	traffic(client, field, now, kind, under) {
		const before = this.before.get(client.name);
		const seconds = before ? now - before.now : 0;
		const rate = seconds > 0 ? (client[field] - before[field]) / seconds : 0;
		return make("td", { class: kind },
			make("data", { value: client[field] }, format.bytes(client[field])),
			rate > 0 ? make("small", {}, format.bits(rate)) : null, under);
	}

	row(client, now) {
		const address = client.last_address == null ? "–" : format.clean(client.last_address, 60);
		const seen = client.connections > 0 ? "now" : format.ago(
			client.last_seen == null ? null : Math.max(0, now - client.last_seen));
		const name = make("td", {}, make("bdi", {}, format.clean(client.name, 80)));
		if (client.state !== "active") {
			name.append(make("span", { class: "mark", "data-level": "bad" }, format.words(client.state)));
		} else if (client.connections > 0) {
			name.append(make("span", { class: "mark", "data-level": "good" }, "connected"));
		}
		name.append(make("small", { class: "under" }, address));
		return make("tr", {}, name,
			make("td", { class: "roomy" }, address),
			make("td", { class: "number roomy" }, make("data", { value: client.connections }, format.count(client.connections))),
			this.traffic(client, "bytes_sent", now, "number",
				make("small", { class: "under" }, `from ${format.bytes(client.bytes_received)}`)),
			this.traffic(client, "bytes_received", now, "number roomy"),
			make("td", { class: "number" }, client.last_seen == null ? seen : make("time",
				{ datetime: new Date(client.last_seen * 1000).toISOString() }, seen)));
	}
}

export class Events {
	constructor() {
		this.list = $("#events");
		this.last = 0;
		this.startedAt = null;
	}

	// Numbers begin anew with every start of the server.
	begin(startedAt) {
		if (this.startedAt !== startedAt) {
			this.last = 0;
			this.startedAt = startedAt;
		}
	}

	// Returns whether it had not been shown before.
	add(event) {
		if (event.number <= this.last) {
			return false;
		}
		this.last = event.number;
		const about = make("span", { class: "about" });
		for (const [key, value] of Object.entries(event)) {
			if (!["number", "time_ms", "event", "schema"].includes(key) && value !== "" && value !== null) {
				about.append(make("b", {}, format.words(key)), make("bdi", {}, format.clean(
					typeof value === "object" ? JSON.stringify(value) : value)), " ");
			}
		}
		this.put(event.time_ms / 1000, format.words(event.event),
			WARNINGS.includes(event.event) ? "warn" : null, about);
		return true;
	}

	missed(count) {
		this.put(Date.now() / 1000, `${format.counted(count, "event")} left out`, "warn", make("span"));
	}

	put(seconds, what, level, about) {
		this.list.prepend(make("li", { "data-level": level },
			make("time", { datetime: new Date(seconds * 1000).toISOString() }, format.clock(seconds, true)),
			make("span", { class: "what" }, what), about));
		while (this.list.children.length > EVENTS_SHOWN) {
			this.list.lastElementChild.remove();
		}
		$("#events-empty").hidden = true;
	}
}

export function showReasons(groups) {
	$("#reasons").replaceChildren(...groups.map(([title, reasons]) => make("div", {},
		make("h4", {}, title),
		make("ul", {}, ...(reasons.length === 0 ? [make("li", { class: "none" }, "none")]
			: reasons.map(([reason, sum]) => make("li", {}, make("span", {}, format.words(reason)),
				make("data", { value: sum }, format.count(sum)))))))));
}

export function showWorkers(sample) {
	const list = $("#workers");
	const busy = sample.worker_busy ?? [];
	while (list.children.length > busy.length) {
		list.lastElementChild.remove();
	}
	busy.forEach((share, i) => {
		if (i >= list.children.length) {
			list.append(make("li", {}, make("span"), make("div", { class: "gauge", "aria-hidden": "true" },
				make("div")), make("b"), make("span", { class: "with" })));
		}
		const [name, gauge, value, rest] = list.children[i].children;
		setText(name, `worker ${i}`);
		gauge.firstElementChild.style.width = `${Math.min(100, Math.round(share * 100))}%`;
		gauge.dataset.level = share > 0.9 ? "bad" : share > 0.7 ? "warn" : "";
		setText(value, format.percent(Math.round(share * 100) / 100));
		setText(rest, format.counted(sample.worker_connections?.[i], "connection"));
	});
}
