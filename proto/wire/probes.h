/* Static tracepoints (USDT) for bpftrace, perf and SystemTap; docs/tracing.md lists them with their
 * arguments. Where nobody is attached one is a single nop. Without sys/sdt.h at build time, or with
 * MT_NO_PROBES, there are none.
 */
#pragma once

#if !defined(MT_NO_PROBES) && defined(__has_include)
#if __has_include(<sys/sdt.h>)
#include <sys/sdt.h>
#define MT_HAVE_PROBES 1
#endif
#endif

#ifdef MT_HAVE_PROBES
#define MT_PROBE2(name, a, b)             DTRACE_PROBE2(mytunnel, name, a, b)
#define MT_PROBE3(name, a, b, c)          DTRACE_PROBE3(mytunnel, name, a, b, c)
#define MT_PROBE4(name, a, b, c, d)       DTRACE_PROBE4(mytunnel, name, a, b, c, d)
#define MT_PROBE5(name, a, b, c, d, e)    DTRACE_PROBE5(mytunnel, name, a, b, c, d, e)
#define MT_PROBE6(name, a, b, c, d, e, f) DTRACE_PROBE6(mytunnel, name, a, b, c, d, e, f)
#else
#define MT_PROBE2(name, a, b)          ((void)(a), (void)(b))
#define MT_PROBE3(name, a, b, c)       ((void)(a), (void)(b), (void)(c))
#define MT_PROBE4(name, a, b, c, d)    ((void)(a), (void)(b), (void)(c), (void)(d))
#define MT_PROBE5(name, a, b, c, d, e) ((void)(a), (void)(b), (void)(c), (void)(d), (void)(e))
#define MT_PROBE6(name, a, b, c, d, e, f)                                                          \
	((void)(a), (void)(b), (void)(c), (void)(d), (void)(e), (void)(f))
#endif
