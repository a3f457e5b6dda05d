/* What the HTTP endpoint shows. The daemon fills it; every function is called on HTTP threads. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum mt_web_metric_type {
	MT_WEB_UNTYPED,
	MT_WEB_COUNTER,
	MT_WEB_GAUGE,
};

struct mt_web_metric {
	const char *name;
	const char *help;
	enum mt_web_metric_type type;
	const char *labels; /* NULL, or what stands between the braces, escaped already */
	double value;
};

#define MT_WEB_METRICS_MAX 128

struct mt_web_view {
	/* Fills at most `cap` rows (their texts live as long as the view), returns how many. */
	size_t (*metrics)(void *user, struct mt_web_metric *out, size_t cap);
	/* The status as JSON, a string for free(); NULL without memory. */
	char *(*status)(void *user);
	/* Whether the server does its work. */
	bool (*healthy)(void *user);
	/* "ready", or a word for what it is instead; static. */
	const char *(*readiness)(void *user);
	void *user;
};
