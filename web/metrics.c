#include "web/metrics.h"

#include <inttypes.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *type_text(enum mt_web_metric_type type)
{
	switch (type) {
	case MT_WEB_COUNTER: return "counter";
	case MT_WEB_GAUGE: return "gauge";
	default: return "untyped";
	}
}

static void write_help(FILE *out, const char *help)
{
	for (; *help != '\0'; help++) {
		if (*help == '\\' || *help == '\n') {
			fputs(*help == '\n' ? "\\n" : "\\\\", out);
		} else {
			fputc(*help, out);
		}
	}
}

static void write_value(FILE *out, double value)
{
	/* Whole numbers up to 2^53 without exponent, as people and simple parsers like them. */
	if (value >= 0 && value <= 9007199254740992.0 && value == floor(value)) {
		fprintf(out, " %" PRIu64 "\n", (uint64_t)value);
	} else {
		fprintf(out, " %.17g\n", value);
	}
}

char *mt_web_metrics_format(const struct mt_web_metric *rows, size_t count, size_t *len)
{
	char *text = NULL;
	size_t text_len = 0;
	FILE *out = open_memstream(&text, &text_len);

	if (out == NULL) {
		return NULL;
	}
	for (size_t i = 0; i < count; i++) {
		const struct mt_web_metric *m = &rows[i];

		if (i == 0 || strcmp(rows[i - 1].name, m->name) != 0) {
			fprintf(out, "# HELP %s ", m->name);
			write_help(out, m->help);
			fprintf(out, "\n# TYPE %s %s\n", m->name, type_text(m->type));
		}
		fputs(m->name, out);
		if (m->labels != NULL) {
			fprintf(out, "{%s}", m->labels);
		}
		write_value(out, m->value);
	}
	/* Writes to memory fail for want of memory alone, which the stream remembers. */
	if (ferror(out) != 0) {
		(void)fclose(out);
		free(text);
		return NULL;
	}
	if (fclose(out) != 0) {
		free(text);
		return NULL;
	}
	*len = text_len;
	return text;
}
