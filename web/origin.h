/* Who may ask over HTTP: protection against web pages that talk to loopback (DNS rebinding, foreign
 * origins). Pure. */
#pragma once

#include <stdbool.h>

/* Whether a Host header names the endpoint at `local` ("IP:PORT", as bound): "localhost", a
 * loopback literal, the bound address itself, or the host `also` (NULL or "": none), with that port
 * or without one. With a wildcard bind every IP literal passes, since a literal cannot be rebound.
 * `host` NULL (HTTP/1.0): refused.
 */
bool mt_web_host_allowed(const char *host, const char *local, const char *also);
/* Whether an Origin header is the endpoint's own ("http://", or "https://" when it is `secured`,
 * and an allowed host with that port), or absent (NULL). */
bool mt_web_origin_allowed(const char *origin, const char *local, const char *also, bool secured);
