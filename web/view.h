/* What the HTTP endpoint shows. The daemon fills it; every function is called on HTTP threads. */
#pragma once

#include "web/metrics.h"

#include <stdbool.h>

struct mt_web_view {
	/* Writes all families. */
	void (*metrics)(void *user, struct mt_exposition *e);
	/* The answers as JSON, strings for free(); NULL without memory. */
	char *(*status)(void *user);
	char *(*stats)(void *user);
	/* Whether the server does its work. */
	bool (*healthy)(void *user);
	/* "ready", or a word for what it is instead; static. */
	const char *(*readiness)(void *user);
	void *user;
};
