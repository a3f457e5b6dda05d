/* How many lines of one kind may be written in a second, and how many were left out. Any thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define MT_LOG_KINDS_MAX 256 /* what comes later shares one budget */

/* Whether another line of this kind (a string literal) may be written in this second. */
bool mt_log_budget_take(const char *kind, uint32_t second, uint32_t per_second);
/* Whether lines were left out that mt_log_budget_report has not told. */
bool mt_log_budget_has_report(void);
/* Calls `tell` for each kind of which lines were left out before this second. One thread at a time.
 */
void mt_log_budget_report(
	uint32_t second, void (*tell)(const char *kind, uint32_t lines, uint32_t seconds));
