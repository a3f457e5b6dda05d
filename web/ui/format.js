// Numbers and times as people read them. Pure; null and undefined become a dash.

const DASH = "–";
const STEPS = ["", "k", "M", "G", "T", "P", "E"];

function scaled(value, unit) {
	let step = 0;
	while (Math.abs(value) >= 999.5 && step < STEPS.length - 1) {
		value /= 1000;
		step++;
	}
	const digits = step === 0 && Number.isInteger(value) ? 0 : value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
	return [value.toFixed(digits), STEPS[step] + unit];
}

function joined(value, unit) {
	return value == null ? DASH : scaled(value, unit).join(" ").trim();
}

// Number and unit apart, for a large figure with a small unit.
export const bitsParts = (bytesPerSecond) =>
	bytesPerSecond == null ? [DASH, ""] : scaled(Math.round(bytesPerSecond * 8), "bit/s");

export const bits = (bytesPerSecond) => bitsParts(bytesPerSecond).join(" ").trim();
export const bytes = (value) => joined(value, "B");

// For the marks of an axis: without zeros that say nothing.
export const plain = (text) => text.replace(/(\.\d*?)0+(?=\D|$)/, "$1").replace(/\.(?=\D|$)/, "");

export function count(value) {
	return value == null ? DASH : Math.round(value).toLocaleString("en-GB");
}

export const counted = (value, noun) => `${count(value)} ${noun}${value === 1 ? "" : "s"}`;

export function milliseconds(value) {
	if (value == null) {
		return DASH;
	}
	return value < 9.95 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`;
}

export function percent(share) {
	if (share == null) {
		return DASH;
	}
	const value = share * 100;
	return `${value === 0 || value >= 9.95 ? value.toFixed(0) : value.toFixed(value < 0.995 ? 2 : 1)} %`;
}

export function duration(seconds) {
	if (seconds == null) {
		return DASH;
	}
	const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
	const first = units.findIndex(([, size]) => seconds >= size);
	if (first < 0) {
		return "0 s";
	}
	const [name, size] = units[first];
	let text = `${Math.floor(seconds / size)} ${name}`;
	if (first < 2) {
		const [below, belowSize] = units[first + 1];
		const rest = Math.floor((seconds % size) / belowSize);
		text += rest > 0 ? ` ${rest} ${below}` : "";
	}
	return text;
}

// Roughly: "2 h ago".
export function ago(seconds) {
	return seconds == null ? "never" : seconds < 5 ? "now" : `${duration(seconds).split(" ", 2).join(" ")} ago`;
}

const pad = (value) => String(value).padStart(2, "0");

export function clock(seconds, withSeconds) {
	const date = new Date(seconds * 1000);
	const text = `${pad(date.getHours())}:${pad(date.getMinutes())}`;
	return withSeconds ? `${text}:${pad(date.getSeconds())}` : text;
}

export function date(seconds) {
	const day = new Date(seconds * 1000);
	return [day.getFullYear(), pad(day.getMonth() + 1), pad(day.getDate())].join("\u2011"); // in one line
}

// Texts that came over the network: no control characters, nothing that turns the direction of what
// follows, and a bounded length.
export function clean(value, limit = 300) {
	const text = String(value).replace(
		/[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g, "\u00b7");
	return text.length > limit ? `${text.slice(0, limit)}\u2026` : text;
}

export function words(name) {
	return clean(name, 60).replaceAll("_", " ");
}
