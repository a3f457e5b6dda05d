/* "Did you mean": the nearest of some words. Pure. */
#pragma once

#include <stddef.h>

/* Edits (insertions, deletions, replacements, swaps of neighbours) from `a` to `b`; words beyond 63
 * bytes are far from all. */
size_t mt_suggest_distance(const char *a, const char *b);
/* Whether `candidate` is near enough to `typed` to be offered. */
int mt_suggest_is_near(const char *typed, const char *candidate);
