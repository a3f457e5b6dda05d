/* The text form of Prometheus (version 0.0.4). Pure. */
#pragma once

#include "web/view.h"

#include <stddef.h>

#define MT_WEB_METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* Writes HELP, TYPE and value of each row; rows of one name must stand together. A string for
 * free() with its length, NULL without memory.
 */
char *mt_web_metrics_format(const struct mt_web_metric *rows, size_t count, size_t *len);
