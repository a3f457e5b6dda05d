// The charts: each is a list of lines over the same time axis, a legend that shows the present or
// what the pointer is at, and a sentence for those who do not see it.

import uPlot from "/ui/uPlot.js";
import { $, $$, make, setAttribute, setText } from "/ui/dom.js";
import * as format from "/ui/format.js";
import { sumOf } from "/ui/model.js";

const LINES_OF_WORKERS = 4;
// What may lie between two marks of an axis.
const SECONDS = [15, 30, 60, 120, 180, 300, 600, 900, 1200, 1800];
const WHOLE = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5];

function workerLines(count) {
	if (count <= LINES_OF_WORKERS) {
		return Array.from({ length: count }, (_, i) => ({
			label: `worker ${i}`, of: (p) => p.worker_busy?.[i], colour: ["--down", "--up", "--third", "--warn"][i], mark: `s${i}`,
		}));
	}
	return [
		{ label: "busiest", of: (p) => p.worker_busy && Math.max(...p.worker_busy), colour: "--down", mark: "s0" },
		{ label: "mean", of: (p) => p.worker_busy && sumOf(p.worker_busy) / p.worker_busy.length, colour: "--up", mark: "s1" },
	];
}

const CHARTS = {
	throughput: {
		text: format.bits,
		floor: 125,
		fill: true,
		lines: () => [
			{ label: "to clients", of: (p) => p.sent_bytes_per_second, colour: "--down", mark: "s0" },
			{ label: "from clients", of: (p) => p.received_bytes_per_second, colour: "--up", mark: "s1" },
		],
	},
	connections: {
		text: format.count,
		floor: 4,
		whole: true,
		lines: () => [
			{ label: "connections", of: (p) => p.connections, colour: "--down", mark: "s0" },
			{ label: "tunnels", of: (p) => p.tunnels, colour: "--up", mark: "s1" },
			{ label: "UDP flows", of: (p) => p.udp_flows, colour: "--third", mark: "s2" },
		],
	},
	rtt: {
		text: format.milliseconds,
		floor: 1,
		lines: () => [
			{ label: "mean", of: (p) => p.rtt_ms, colour: "--down", mark: "s0" },
			{ label: "95 % below", of: (p) => p.rtt_p95_ms, colour: "--third", mark: "s2" },
		],
	},
	loss: {
		text: format.percent,
		floor: 0.01,
		fill: true,
		lines: () => [{ label: "of packets sent", of: (p) => p.loss, colour: "--warn", mark: "warn" }],
	},
	workers: {
		text: format.percent,
		floor: 1,
		lines: (model) => workerLines(model.now?.worker_busy?.length ?? 0),
	},
	failures: {
		text: (value) => (value == null ? "–" : `${format.count(value)}/min`),
		floor: 4,
		fill: true,
		stepped: true,
		lines: () => [
			{ label: "handshakes", of: (p) => 60 * sumOf(p.handshake_failures_per_second), colour: "--bad", mark: "bad" },
			{ label: "dials to targets", of: (p) => 60 * sumOf(p.connect_failures_per_second), colour: "--warn", mark: "warn" },
		],
	},
};

function colour(name) {
	return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// One point more than the hour of steps is drawn straight on; a hole in the record stays a hole.
function columns(points, lines, span) {
	const limit = span <= 300 ? 25 : 45;
	const data = [[], ...lines.map(() => [])];
	let last = null;
	for (const point of points) {
		if (last !== null && point.time - last > limit) {
			data[0].push((point.time + last) / 2);
			lines.forEach((_, i) => data[i + 1].push(null));
		}
		data[0].push(point.time);
		lines.forEach((line, i) => data[i + 1].push(line.of(point) ?? null));
		last = point.time;
	}
	return data;
}

class Chart {
	constructor(box, model, sync) {
		this.box = box;
		this.kind = CHARTS[box.dataset.chart];
		this.model = model;
		this.sync = sync;
		this.legend = $(".legend", box.parentElement);
		this.title = $("h3", box.parentElement).textContent;
		this.plot = null;
	}

	build(lines) {
		this.plot?.destroy();
		this.lines = lines;
		this.legend.replaceChildren(...lines.map((line) =>
			make("li", { class: line.mark }, make("i"), `${line.label} `, make("b"))));
		this.values = $$("b", this.legend);
		const kind = this.kind;
		const axis = {
			stroke: colour("--muted"), font: "12px system-ui, sans-serif",
			grid: { stroke: colour("--grid"), width: 1 }, ticks: { show: false },
		};
		this.plot = new uPlot({
			width: Math.max(this.box.clientWidth, 120),
			height: this.box.clientHeight,
			padding: [8, 6, 0, 0],
			legend: { show: false },
			cursor: { y: false, drag: { x: false, y: false }, sync: { key: this.sync }, points: { size: 7 } },
			scales: {
				x: { time: true, range: () => this.span() },
				y: { range: (_, low, high) => [0, Math.max(high ?? 0, kind.floor) * 1.08] },
			},
			axes: [
				{ ...axis, space: 64, size: 26, incrs: SECONDS, values: (_, ticks) => ticks.map((tick) => format.clock(tick, tick % 60 !== 0)) },
				{ ...axis, size: 78, space: 34, incrs: kind.whole ? WHOLE : undefined,
					values: (_, ticks) => ticks.map((tick) => format.plain(kind.text(tick))) },
			],
			series: [{}, ...lines.map((line) => ({
				label: line.label, stroke: colour(line.colour), width: 1.8, points: { show: false },
				paths: kind.stepped ? uPlot.paths.stepped({ align: -1 }) : undefined,
				fill: kind.fill ? `${colour(line.colour)}1f` : undefined,
			}))],
			hooks: { setCursor: [() => this.say()] },
		}, [[], ...lines.map(() => [])], this.box);
	}

	span() {
		const end = this.model.now?.time ?? Date.now() / 1000;
		return [end - this.seconds, end];
	}

	draw(seconds) {
		const lines = this.kind.lines(this.model);
		this.seconds = seconds;
		if (lines.length === 0) {
			return;
		}
		if (this.plot === null || this.lines.length !== lines.length) {
			this.build(lines);
		}
		this.points = this.model.points(seconds);
		this.plot.setData(columns(this.points, this.lines, seconds));
		this.say();
		this.describe();
	}

	// The legend: at the pointer, else the newest.
	say() {
		const data = this.plot?.data;
		if (!data || data[0].length === 0) {
			return;
		}
		const index = this.plot.cursor.idx ?? data[0].length - 1;
		this.values.forEach((value, i) => setText(value, this.kind.text(data[i + 1][index])));
	}

	describe() {
		const parts = this.lines.map((line) => {
			const values = this.points.map(line.of).filter((value) => value != null);
			return values.length === 0 ? `${line.label} unknown`
				: `${line.label} now ${this.kind.text(values[values.length - 1])}, at most ${this.kind.text(Math.max(...values))}`;
		});
		setAttribute(this.box, "aria-label", `${this.title}, last ${format.duration(this.seconds)}: ${parts.join("; ")}`);
	}

	resize() {
		this.plot?.setSize({ width: Math.max(this.box.clientWidth, 120), height: this.box.clientHeight });
	}

	repaint() {
		if (this.plot !== null) {
			this.build(this.lines);
			this.draw(this.seconds);
		}
	}
}

export class Charts {
	constructor(model) {
		const sync = "time";
		this.seconds = 900;
		this.charts = $$("[data-chart]").map((box) => new Chart(box, model, sync));
		const sizes = new ResizeObserver(() => this.charts.forEach((chart) => chart.resize()));
		this.charts.forEach((chart) => sizes.observe(chart.box));
		matchMedia("(prefers-color-scheme: dark)").addEventListener("change",
			() => this.charts.forEach((chart) => chart.repaint()));
		for (const button of $$("[data-range]")) {
			button.addEventListener("click", () => this.show(Number(button.dataset.range)));
		}
	}

	show(seconds) {
		this.seconds = seconds;
		for (const button of $$("[data-range]")) {
			button.setAttribute("aria-pressed", String(Number(button.dataset.range) === seconds));
		}
		this.draw();
	}

	draw() {
		this.charts.forEach((chart) => chart.draw(this.seconds));
	}
}
