// The last hour in memory: steps of ten seconds as the server keeps them, continued from the samples
// that come once a second, and the samples of the last minutes themselves. No DOM here.

const STEP = 10;
const STEPS_MAX = 360;
const LIVE_SECONDS = 300;
const FINE = 3; // seconds of samples in one point where the span is short

// What a sample says at its end; everything else is a mean over its time.
const AT_END = ["connections", "half_open", "tunnels", "udp_flows", "worker_connections",
	"memory_bytes"];

// Turns the columns of /stats into points: lists become values, objects and lists of workers are
// looked into.
function at(column, i) {
	if (Array.isArray(column)) {
		return column[i];
	}
	return Object.fromEntries(Object.entries(column).map(([key, list]) => [key, list[i]]));
}

function pointsOf(history) {
	const names = Object.keys(history).filter((name) => name !== "time" && name !== "step_seconds");
	return history.time.map((time, i) => {
		const sample = { time, seconds: history.step_seconds };
		for (const name of names) {
			sample[name] = name.startsWith("worker_")
				? history[name].map((list) => list[i])
				: at(history[name], i);
		}
		return sample;
	});
}

function mean(values) {
	const known = values.filter((value) => value != null);
	return known.length === 0 ? null : known.reduce((sum, value) => sum + value, 0) / known.length;
}

function fold(samples, end) {
	const last = samples[samples.length - 1];
	const point = { time: end, seconds: STEP };
	for (const [name, value] of Object.entries(last)) {
		const all = samples.map((sample) => sample[name]);
		if (name === "time" || name === "seconds") {
			continue;
		}
		if (AT_END.includes(name) || typeof value === "string") {
			point[name] = value;
		} else if (Array.isArray(value)) {
			point[name] = value.map((_, i) => mean(all.map((list) => list?.[i])));
		} else if (value !== null && typeof value === "object") {
			point[name] = Object.fromEntries(Object.keys(value).map(
				(key) => [key, mean(all.map((object) => object?.[key]))]));
		} else {
			point[name] = mean(all);
		}
	}
	return point;
}

function grouped(samples) {
	const groups = new Map();
	for (const sample of samples) {
		const group = Math.floor(sample.time / FINE);
		groups.set(group, [...(groups.get(group) ?? []), sample]);
	}
	return [...groups.values()].map((group) => fold(group, group[group.length - 1].time));
}

export class Model {
	constructor() {
		this.steps = [];
		this.live = [];
		this.pending = [];
		this.now = null;
		this.startedAt = null;
	}

	// Takes an answer of /stats. Seconds of another process are of no use any more.
	load(stats) {
		if (this.startedAt !== stats.started_at) {
			this.live = [];
			this.startedAt = stats.started_at;
		}
		this.steps = pointsOf(stats.history).slice(-STEPS_MAX);
		this.pending = this.live.filter((sample) => sample.time > this.end());
		if (stats.now) {
			this.add(stats.now);
		}
	}

	end() {
		return this.steps.length > 0 ? this.steps[this.steps.length - 1].time : 0;
	}

	// How far back it reaches.
	seconds() {
		return this.steps.length * STEP;
	}

	// Takes a sample; returns whether it is news.
	add(raw) {
		const time = raw.time_ms / 1000;
		const newest = this.live[this.live.length - 1];
		if (newest && time <= newest.time) {
			return false;
		}
		const sample = { ...raw, time, seconds: newest ? Math.min(time - newest.time, STEP) : 1 };
		this.now = sample;
		this.live.push(sample);
		while (this.live[0].time < time - LIVE_SECONDS) {
			this.live.shift();
		}
		const end = this.end() + STEP;
		if (this.pending.length > 0 && time > end) {
			this.steps.push(fold(this.pending, Math.max(end, Math.floor(this.pending[this.pending.length - 1].time))));
			this.steps.splice(0, this.steps.length - STEPS_MAX);
			this.pending = [];
		}
		if (time > this.end()) {
			this.pending.push(sample);
		}
		return true;
	}

	// Points of the last `seconds`, fine where a short span asks for it. Every chart asks.
	points(seconds) {
		if (this.now === null) {
			return [];
		}
		const key = `${this.now.time} ${seconds} ${this.end()}`;
		if (this.asked !== key) {
			this.asked = key;
			this.answer = this.compute(seconds);
		}
		return this.answer;
	}

	compute(seconds) {
		const from = this.now.time - seconds;
		const fine = seconds <= LIVE_SECONDS && this.live.length > 1 ? this.live : this.pending.slice(-1);
		const begin = fine.length > 0 ? fine[0].time : this.now.time + 1;
		const coarse = this.steps.filter((step) => step.time > from && step.time < begin);
		return [...coarse, ...grouped(fine.filter((sample) => sample.time > from))];
	}

	// How often each reason came in the last hour, the most frequent first.
	reasons(field) {
		const sums = new Map();
		for (const point of [...this.steps, ...this.pending]) {
			for (const [reason, rate] of Object.entries(point[field] ?? {})) {
				sums.set(reason, (sums.get(reason) ?? 0) + rate * point.seconds);
			}
		}
		return [...sums].map(([reason, sum]) => [reason, Math.round(sum)])
			.filter(([, sum]) => sum > 0)
			.sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0]));
	}
}

export function sumOf(object) {
	return Object.values(object ?? {}).reduce((sum, value) => sum + value, 0);
}
