#include "daemon/failure.h"

#include "proto/wire/err.h"

#include <errno.h>

const char *mt_failure_text(int err)
{
	switch (err) {
	case MT_E_DENIED: return "denied";
	case MT_E_MALFORMED: return "address";
	case MT_E_DNS: return "dns";
	case -ECONNREFUSED: return "refused";
	case -ECONNRESET: return "reset";
	case -ENETUNREACH:
	case -ENETDOWN:
	case -EHOSTUNREACH:
	case -EHOSTDOWN: return "unreachable";
	case MT_E_TIMEOUT:
	case -ETIMEDOUT: return "timeout";
	case -EMFILE:
	case -ENFILE:
	case -ENOBUFS:
	case -ENOMEM: return "resources";
	default: return "other";
	}
}
