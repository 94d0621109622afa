/*
 * Random traffic on libwebsockets: a server and a client that check every message they get.
 *
 *	traffic server PORT
 *	traffic client PORT PROTOCOL CONNECTIONS MESSAGES SEED
 *
 * The server sends what it gets back to its sender in fragments of random sizes ("echo"), or as it is to all who are
 * connected ("lws-mirror-protocol").  The client opens CONNECTIONS, sends MESSAGES on each in fragments of random
 * sizes, with pings between them, and is content (exit status 0) when every message has come to everybody who should
 * get it, once, whole and in order.  Both print totals; tests/interop/traffic.py is the same in Python.
 *
 * A message: the sender's number in 2 hexadecimal digits, the message's in 8, filler, and the CRC-32 of all that in 8.
 * The filler of a binary message is random bytes, that of text random characters of one to four bytes each.
 *
 * Nothing is compressed: with messages of these sizes libwebsockets 4.1.6 ends in an endless loop, with itself too.
 */

#include <libwebsockets.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	HEAD = 2 + 8, CHECKSUM = 8,
	LONGEST = 70000,	/* of filler: the three forms of a frame's length, and more than one read */
	WINDOW = 16,		/* messages of a sender that may be under way: what bounds every queue here */
	PING_EVERY = 50,	/* writes */
	MOST_CONNECTIONS = 16,
};

struct message {
	struct message *next;
	size_t size;
	int is_text;
	unsigned char space[LWS_PRE];	/* in which libwebsockets puts the frame's header */
	unsigned char bytes[];
};

/* One connection; libwebsockets makes it, zeroed. */
struct session {
	struct session *next;		/* among all of its protocol */
	struct lws *wsi;
	struct message *first, *last;	/* to be sent */
	size_t sent;			/* bytes of the first of them */
	unsigned char *received;	/* the message that is coming */
	size_t size, capacity;
	/* The client's: */
	unsigned number;
	unsigned made, returned, writes, pings, pongs;
	unsigned total;			/* messages received, of all senders */
	unsigned expected[MOST_CONNECTIONS];	/* by sender: the number of its next message */
	int is_done;
};

static struct lws_context *context;
static struct session *sessions;	/* the client's */
static struct session *mirrored;	/* those that speak the mirror with the server */
static volatile sig_atomic_t is_over;
static unsigned connections, messages, established, closed;	/* the client's */
static unsigned total, wrong;
static uint64_t total_bytes;
static uint32_t state = 1;

/* -- chance and checksums --------------------------------------------------------------------------------------- */

/* xorshift32: the same run again for the same seed. */
static uint32_t chance(uint32_t below)
{
	state ^= state << 13;
	state ^= state >> 17;
	state ^= state << 5;
	return state % below;
}

static uint32_t crc32(const unsigned char *data, size_t size)
{
	uint32_t crc = 0xffffffff;

	while (size--) {
		crc ^= *data++;
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
	}
	return ~crc;
}

/* Mostly short, some of several reads. */
static size_t any_size(void)
{
	uint32_t sort = chance(100);

	return chance(sort < 80 ? 200 : sort < 95 ? 5000 : LONGEST);
}

/* -- messages --------------------------------------------------------------------------------------------------- */

static struct message *new_message(size_t size, int is_text)
{
	struct message *message = malloc(sizeof *message + size + 1);	/* 1: for sprintf's NUL */

	if (!message)
		abort();
	message->next = NULL;
	message->size = size;
	message->is_text = is_text;
	return message;
}

static struct message *random_message(unsigned sender, unsigned number)
{
	static const char *const letters[] = { "x", "\n", "\xc3\xb6", "\xe2\x82\xac", "\xf0\x9f\x8c\x8d" };
	size_t filler = any_size(), at = HEAD;
	struct message *message = new_message(HEAD + filler + CHECKSUM, (int)chance(2));

	sprintf((char *)message->bytes, "%02x%08x", sender, number);
	while (at < HEAD + filler) {
		const char *letter = letters[chance(5)];
		size_t length = strlen(letter);

		if (!message->is_text)
			message->bytes[at++] = (unsigned char)chance(256);
		else if (at + length > HEAD + filler)
			message->bytes[at++] = '.';
		else {
			memcpy(message->bytes + at, letter, length);
			at += length;
		}
	}
	sprintf((char *)message->bytes + at, "%08" PRIx32, crc32(message->bytes, at));
	return message;
}

static unsigned hexadecimal(const unsigned char *digits, size_t size)
{
	char text[9] = "";

	memcpy(text, digits, size);
	return (unsigned)strtoul(text, NULL, 16);
}

/* Reports whether a received message is as it was made. */
static int is_right(const unsigned char *bytes, size_t size)
{
	if (size >= HEAD + CHECKSUM &&
	    hexadecimal(bytes + size - CHECKSUM, CHECKSUM) == crc32(bytes, size - CHECKSUM))
		return 1;
	wrong++;
	lwsl_err("a message of %zu bytes is wrong\n", size);
	return 0;
}

static int is_mirror(struct lws *wsi)
{
	const struct lws_protocols *protocol = wsi ? lws_get_protocol(wsi) : NULL;

	return protocol && protocol->id;
}

/* Collects a message; reports whether it is complete. */
static int collect(struct session *session, const void *in, size_t len)
{
	if (lws_is_first_fragment(session->wsi))
		session->size = 0;
	if (session->size + len > session->capacity) {
		session->capacity = 2 * (session->size + len);
		session->received = realloc(session->received, session->capacity);
		if (!session->received)
			abort();
	}
	if (len)
		memcpy(session->received + session->size, in, len);
	session->size += len;
	if (!lws_is_final_fragment(session->wsi))
		return 0;
	total++;
	total_bytes += session->size;
	return 1;
}

static void queue(struct session *session, struct message *message)
{
	if (session->first)
		session->last->next = message;
	else
		session->first = message;
	session->last = message;
	lws_callback_on_writable(session->wsi);
}

/* Sends the first message that waits, or a fragment of it; libwebsockets allows one write in each callback. */
static int send_some(struct session *session, int in_fragments)
{
	struct message *message = session->first;
	size_t left = message->size - session->sent;
	size_t size = in_fragments && chance(4) ? 1 + chance((uint32_t)left) : left;
	enum lws_write_protocol flags = (enum lws_write_protocol)lws_write_ws_flags(
		message->is_text ? LWS_WRITE_TEXT : LWS_WRITE_BINARY, !session->sent, size == left);

	if (lws_write(session->wsi, message->bytes + session->sent, size, flags) < (int)size)
		return -1;
	session->sent += size;
	if (size == left) {
		session->first = message->next;
		session->sent = 0;
		free(message);
	}
	return 0;
}

/* The end of a connection. */
static void forget(struct session *session)
{
	struct message *message;

	while ((message = session->first)) {
		session->first = message->next;
		free(message);
	}
	free(session->received);
}

/* -- the server ------------------------------------------------------------------------------------------------- */

static void answer(struct session *session)
{
	struct session *other = is_mirror(session->wsi) ? mirrored : session;

	for (; other; other = other->next) {	/* who echoes is in no list */
		struct message *message = new_message(session->size, !lws_frame_is_binary(session->wsi));

		memcpy(message->bytes, session->received, session->size);
		queue(other, message);
	}
}

static void leave(struct session *session)
{
	struct session **link = &mirrored;

	while (*link && *link != session)
		link = &(*link)->next;
	if (*link)
		*link = session->next;
	forget(session);
}

static int on_server(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
	struct session *session = user;

	switch (reason) {
	case LWS_CALLBACK_ESTABLISHED:
		session->wsi = wsi;
		if (is_mirror(wsi)) {
			session->next = mirrored;
			mirrored = session;
		}
		break;
	case LWS_CALLBACK_RECEIVE:
		if (!collect(session, in, len))
			break;
		if (!is_right(session->received, session->size)) {
			lws_close_reason(wsi, LWS_CLOSE_STATUS_POLICY_VIOLATION, NULL, 0);
			return -1;
		}
		answer(session);
		break;
	case LWS_CALLBACK_SERVER_WRITEABLE:
		if (session->first && send_some(session, !is_mirror(wsi)))
			return -1;
		if (session->first)
			lws_callback_on_writable(wsi);
		break;
	case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
		printf("closed %d\n", len < 2 ? 1005 : ((unsigned char *)in)[0] << 8 | ((unsigned char *)in)[1]);
		break;
	case LWS_CALLBACK_CLOSED:
		leave(session);
		break;
	default:
		break;
	}
	return 0;
}

/* -- the client ------------------------------------------------------------------------------------------------- */

/* A message came whole: is it the next of its sender? */
static void check(struct session *session, unsigned senders)
{
	const unsigned char *bytes = session->received;
	unsigned sender, number;

	if (!is_right(bytes, session->size))
		return;
	sender = hexadecimal(bytes, 2);
	number = hexadecimal(bytes + 2, 8);
	if (sender >= connections || (senders == 1 && sender != session->number) ||
	    number != session->expected[sender]++) {
		wrong++;
		lwsl_err("connection %u got message %u of %u out of order\n", session->number, number, sender);
	} else if (sender == session->number)
		session->returned++;
	session->total++;
	/* Another message may be made now, or all is there and the connection can be closed. */
	lws_callback_on_writable(session->wsi);
}

/* Reports whether everything has come that is to come. */
static int is_complete(struct session *session, unsigned senders)
{
	return session->total == senders * messages && session->pings == session->pongs;
}

static int write_on(struct session *session)
{
	unsigned char ping[LWS_PRE + 4];

	if (!session->first && session->made < messages && session->made - session->returned < WINDOW)
		queue(session, random_message(session->number, session->made++));
	if (!session->first)
		return 0;
	lws_callback_on_writable(session->wsi);
	if (++session->writes % PING_EVERY || session->pings > session->pongs)
		return send_some(session, 1);
	session->pings++;
	memcpy(ping + LWS_PRE, "ping", 4);
	return lws_write(session->wsi, ping + LWS_PRE, 4, LWS_WRITE_PING) < 4 ? -1 : 0;
}

/* All begin together, so that a mirror sends everything to everybody. */
static void begin(struct session *session, struct lws *wsi)
{
	session->wsi = wsi;
	session->number = established++;
	session->next = sessions;
	sessions = session;
	if (established == connections)
		for (session = sessions; session; session = session->next)
			lws_callback_on_writable(session->wsi);
}

static void fail(const char *what, const char *why)
{
	lwsl_err("%s: %s\n", what, why);
	wrong++;
	is_over = 1;
}

static int on_client(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
	struct session *session = user;
	unsigned senders = is_mirror(wsi) ? connections : 1;

	switch (reason) {
	case LWS_CALLBACK_CLIENT_ESTABLISHED:
		begin(session, wsi);
		break;
	case LWS_CALLBACK_CLIENT_RECEIVE:
		if (collect(session, in, len))
			check(session, senders);
		break;
	case LWS_CALLBACK_CLIENT_RECEIVE_PONG:
		if (len != 4 || memcmp(in, "ping", 4))
			fail("a pong", "not as its ping");
		session->pongs++;
		lws_callback_on_writable(wsi);
		break;
	case LWS_CALLBACK_CLIENT_WRITEABLE:
		if (established < connections || !is_complete(session, senders))
			return write_on(session);
		session->is_done = 1;
		lws_close_reason(wsi, LWS_CLOSE_STATUS_NORMAL, (unsigned char *)"done", 4);
		return -1;
	case LWS_CALLBACK_CLIENT_CLOSED:
		if (!session->is_done)
			fail("a connection", "closed before all had come");
		forget(session);
		is_over = is_over || ++closed == connections;
		break;
	case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
		fail("no connection", in ? (char *)in : "no reason given");
		break;
	default:
		break;
	}
	return 0;
}

static void connect_all(int port, const char *protocol)
{
	struct lws_client_connect_info info = {
		.context = context, .address = "127.0.0.1", .host = "127.0.0.1", .port = port, .path = "/",
		.protocol = protocol, .ietf_version_or_minus_one = -1,
	};

	for (unsigned count = 0; count < connections; count++)
		if (!lws_client_connect_via_info(&info))
			fail("no connection", "lws_client_connect_via_info");
}

/* -- the program ------------------------------------------------------------------------------------------------ */

static void end(int number)
{
	(void)number;
	is_over = 1;
	lws_cancel_service(context);
}

static int usage(void)
{
	fputs("traffic server PORT\n"
	      "traffic client PORT PROTOCOL CONNECTIONS MESSAGES SEED\n", stderr);
	return 2;
}

int main(int count, char **arguments)
{
	int is_server = count == 3 && !strcmp(arguments[1], "server");
	int is_client = count == 7 && !strcmp(arguments[1], "client");
	lws_callback_function *callback = is_server ? on_server : on_client;
	const struct lws_protocols protocols[] = {
		{ "echo", callback, sizeof(struct session), 0, 0, NULL, 0 },
		{ "lws-mirror-protocol", callback, sizeof(struct session), 0, 1, NULL, 0 },
		{ NULL, NULL, 0, 0, 0, NULL, 0 },
	};
	struct lws_context_creation_info info = { .protocols = protocols };

	if (!is_server && !is_client)
		return usage();
	lws_set_log_level(LLL_ERR | LLL_WARN, NULL);
	info.iface = is_server ? "127.0.0.1" : NULL;
	info.port = is_server ? atoi(arguments[2]) : CONTEXT_PORT_NO_LISTEN;
	context = lws_create_context(&info);
	if (!context)
		return 1;
	signal(SIGTERM, end);
	if (is_client) {
		connections = (unsigned)atoi(arguments[4]);
		messages = (unsigned)atoi(arguments[5]);
		state = (uint32_t)atoi(arguments[6]);
		if (connections > MOST_CONNECTIONS || !state)
			return usage();
		connect_all(atoi(arguments[2]), arguments[3]);
	} else {
		puts("listening");
		fflush(stdout);
	}
	while (!is_over && lws_service(context, 0) >= 0)
		;
	lws_context_destroy(context);
	printf("received %u messages, %" PRIu64 " bytes, %u wrong\n", total, total_bytes, wrong);
	return wrong || (is_client && closed < connections);
}
