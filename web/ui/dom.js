// Elements from texts. Whatever the server says enters the page as text: nothing here, or anywhere
// else in the page, takes HTML.

export const $ = (selector, within = document) => within.querySelector(selector);
export const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];

export function make(tag, attributes = {}, ...children) {
	const element = document.createElement(tag);
	for (const [name, value] of Object.entries(attributes)) {
		if (value != null && value !== false) {
			element.setAttribute(name, value === true ? "" : value);
		}
	}
	element.append(...children.filter((child) => child != null));
	return element;
}

// Writes only what has changed, so that selections and screen readers are left in peace.
export function setText(element, text) {
	if (element.textContent !== text) {
		element.textContent = text;
	}
}

export function setAttribute(element, name, value) {
	if (value == null) {
		element.removeAttribute(name);
	} else if (element.getAttribute(name) !== String(value)) {
		element.setAttribute(name, value);
	}
}
