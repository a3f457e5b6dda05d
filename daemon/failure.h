/* Why a tunnel did not come about, in the words of mytunnel_connect_failures_total's label. */
#pragma once

/* For an error of mt_opening_start or of its on_done: one lower-case word, static. "denied" and
 * "address" (the request's host is none) are no failures to connect and have counters of their own.
 */
const char *mt_failure_text(int err);
