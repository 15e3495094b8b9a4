// SPDX-License-Identifier: Apache-2.0
// h3load: a small HTTP/3 load generator on Debian's libngtcp2 0.12, libnghttp3 0.8 and GnuTLS.
// cc -O2 -o h3load h3load.c -lngtcp2 -lngtcp2_crypto_gnutls -lnghttp3 -lgnutls
//
//   -p PORT   of 127.0.0.1          -u PATH   default /v1/chat/completions
//   -c N      connections           -m N      concurrent requests on each
//   -D S      run so many seconds   -n N      or so many requests
//   -w S      latencies count from then on; "W <responses so far>" is then written to stderr
//   -d FILE   request body, sent as POST; without it the requests are GET
//   -L        FILE holds a body a line, all of one length; requests take them in turn
//   -B BYTES  what an answer's body must have; one that has not counts as failed
//   -M MODE   hs: a new connection and full handshake for each request; res: resumed; 0rtt: early
//   -S        the answers are event streams; "t":<monotonic ns> in an event gives its latency
//   -G        no UDP_SEGMENT        -A N      packets before an ACK (2)
//
// In the end "X <responses>" goes to stderr, and one line of JSON to stdout.
#define _GNU_SOURCE
#include <ngtcp2/ngtcp2.h>
#include <ngtcp2/ngtcp2_crypto.h>
#include <ngtcp2/ngtcp2_crypto_gnutls.h>
#include <nghttp3/nghttp3.h>
#include <gnutls/gnutls.h>
#include <gnutls/crypto.h>
#include <arpa/inet.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <errno.h>
#include <time.h>
#include <fcntl.h>
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
static const char* prio =
    "%DISABLE_TLS13_COMPAT_MODE:NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-128-GCM:+AES-256-"
    "GCM:+CHACHA20-POLY1305:-GROUP-ALL:+GROUP-X25519:+GROUP-SECP256R1";
static int nconn = 1, nstream = 10, mode = 0, port = 4433, ackthresh = 2;
static long total = 10000;
static double duration = 0, warm = 0;
static const char *path = "/v1/chat/completions", *host = "127.0.0.1", *sni = "localhost";
static uint8_t* body;
static size_t bodylen, wanted, filelen;
static uint8_t* file;
static int lines;
static int use_gso = 1;
static int drip = 0;
static gnutls_certificate_credentials_t cred;
static int ep;
static long started, done, failed, handshakes, okbytes, nearly;
static long measured;
static int stopping;
static uint64_t t_first, t_meas0;
static struct sockaddr_in rem;
#define FILE_MAX (16 << 20)
#define HB 4096
static uint32_t hist[HB];  // log-ish buckets: value us -> bucket
static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000ull + t.tv_nsec;
}
static int bucket(uint64_t us) {
  if (us < 1024) return us;
  int e = 63 - __builtin_clzll(us);
  int b = 1024 + (e - 10) * 256 + ((us >> (e - 8)) & 255);
  return b < HB ? b : HB - 1;
}
static uint64_t unbucket(int b) {
  if (b < 1024) return b;
  int e = (b - 1024) / 256 + 10;
  return (1ull << e) + (((uint64_t)((b - 1024) % 256)) << (e - 8));
}
static uint32_t elhist[HB];
static long events;
static struct {
  uint64_t bytes;
} st;
typedef struct conn {
  int fd, idx, alive, h3up, closing, rxreq;
  ngtcp2_conn* q;
  nghttp3_conn* h;
  gnutls_session_t tls;
  ngtcp2_crypto_conn_ref ref;
  struct sockaddr_in loc;
  ngtcp2_path path;
  int inflight;
  uint64_t expiry;
  uint64_t t0;
  int early;
  int got_ticket;
  gnutls_datum_t save;
  uint8_t tbuf[65536];
  int spare_status;
} conn;
typedef struct req {
  uint64_t t0;
  int status;
  int counted;
  size_t n;
  char tail[64];
  int tl;
} req;
static conn* C;
static gnutls_datum_t ticket;
static ngtcp2_transport_params tparams;
static int have_tp;
static int conn_start(conn* c);
static void conn_write(conn* c);
static ngtcp2_conn* getconn(ngtcp2_crypto_conn_ref* r) { return ((conn*)r->user_data)->q; }
static void submit(conn* c) {
  if (!c->h) return;
  while (!stopping && c->inflight < nstream && (duration > 0 || started < total)) {
    if ((mode) && c->rxreq > 0) return;
    int64_t sid;
    req* r;
    if (ngtcp2_conn_get_streams_bidi_left(c->q) == 0) return;
    r = calloc(1, sizeof *r);
    r->t0 = now_ns();
    if (ngtcp2_conn_open_bidi_stream(c->q, &sid, r)) {
      free(r);
      return;
    }
    uint8_t cl[24];
    int cll = snprintf((char*)cl, sizeof cl, "%zu", bodylen);
#define NV(n, v, l) {(uint8_t*)(n), (uint8_t*)(v), sizeof(n) - 1, (l), NGHTTP3_NV_FLAG_NONE}
    nghttp3_nv nva[] = {NV(":method", bodylen ? "POST" : "GET", bodylen ? 4 : 3),
                        NV(":scheme", "https", 5),
                        NV(":authority", "localhost", 9),
                        NV(":path", path, strlen(path)),
                        NV("user-agent", "h3load", 6),
                        NV("content-type", "application/json", 16),
                        NV("authorization", "Bearer sk-test-0123456789", 25),
                        NV("content-length", cl, (size_t)cll)};
    extern nghttp3_ssize rd(nghttp3_conn*, int64_t, nghttp3_vec*, size_t, uint32_t*, void*, void*);
    nghttp3_data_reader dr = {rd};
    int rv = nghttp3_conn_submit_request(c->h, sid, nva, bodylen ? 8 : 7, bodylen ? &dr : NULL, r);
    if (rv) {
      fprintf(stderr, "submit %s\n", nghttp3_strerror(rv));
      free(r);
      return;
    }
    c->inflight++;
    c->rxreq++;
    started++;
  }
}
nghttp3_ssize rd(nghttp3_conn* h, int64_t s, nghttp3_vec* v, size_t n, uint32_t* fl, void* u,
                 void* su) {
  v[0].base = body;
  v[0].len = bodylen;
  *fl |= NGHTTP3_DATA_FLAG_EOF;
  if (lines) {
    body += bodylen + 1;
    if (body + bodylen > file + filelen) body = file;
  }
  return 1;
}
// ---- h3 callbacks
static int h_close(nghttp3_conn* h, int64_t sid, uint64_t ec, void* u, void* su) {
  conn* c = u;
  req* r = su;
  uint64_t n = now_ns();
  if (!r) return 0;
  c->inflight--;
  if (r->status == 200 && (!wanted || r->n == wanted)) {
    done++;
    okbytes += r->n;
    if (n - t_first >= (uint64_t)(warm * 1e9)) {
      if (!measured) t_meas0 = n;
      measured++;
      hist[bucket((n - r->t0) / 1000)]++;
    }
  } else
    failed++;
  free(r);
  return 0;
}
static int h_data(nghttp3_conn* h, int64_t sid, const uint8_t* d, size_t l, void* u, void* su) {
  conn* c = u;
  req* r = su;
  r->n += l;
  st.bytes += l;
  ngtcp2_conn_extend_max_stream_offset(c->q, sid, l);
  ngtcp2_conn_extend_max_offset(c->q, l);
  if (drip) {  // SSE: events carry "t":<monotonic ns>
    const uint8_t *p = d, *e = d + l;
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    uint64_t nn = (uint64_t)t.tv_sec * 1000000000ull + t.tv_nsec;
    while (p < e) {
      const uint8_t* q = memmem(p, e - p, "\"t\":", 4);
      if (!q) break;
      uint64_t v = strtoull((const char*)q + 4, NULL, 10);
      if (v && nn > v) {
        elhist[bucket((nn - v) / 1000)]++;
        events++;
      }
      p = q + 4;
    }
  }
  return 0;
}
static int h_def(nghttp3_conn* h, int64_t sid, size_t l, void* u, void* su) {
  conn* c = u;
  ngtcp2_conn_extend_max_stream_offset(c->q, sid, l);
  ngtcp2_conn_extend_max_offset(c->q, l);
  return 0;
}
static int h_hdr(nghttp3_conn* h, int64_t sid, int32_t tok, nghttp3_rcbuf* nm, nghttp3_rcbuf* v,
                 uint8_t fl, void* u, void* su) {
  req* r = su;
  if (tok == NGHTTP3_QPACK_TOKEN__STATUS) {
    nghttp3_vec b = nghttp3_rcbuf_get_buf(v);
    r->status = atoi((char*)b.base);
  }
  return 0;
}
static int h_stop(nghttp3_conn* h, int64_t sid, uint64_t ec, void* u, void* su) {
  ngtcp2_conn_shutdown_stream_read(((conn*)u)->q, sid, ec);
  return 0;
}
static int h_rst(nghttp3_conn* h, int64_t sid, uint64_t ec, void* u, void* su) {
  ngtcp2_conn_shutdown_stream_write(((conn*)u)->q, sid, ec);
  return 0;
}
static int setup_h3(conn* c) {
  if (c->h) return 0;
  if (ngtcp2_conn_get_streams_uni_left(c->q) < 3) return 0;
  nghttp3_callbacks cb = {0};
  cb.stream_close = h_close;
  cb.recv_data = h_data;
  cb.deferred_consume = h_def;
  cb.recv_header = h_hdr;
  cb.stop_sending = h_stop;
  cb.reset_stream = h_rst;
  nghttp3_settings s;
  nghttp3_settings_default(&s);
  s.qpack_max_dtable_capacity = 4096;
  s.qpack_encoder_max_dtable_capacity = 4096;
  s.qpack_blocked_streams = 100;
  if (nghttp3_conn_client_new(&c->h, &cb, &s, nghttp3_mem_default(), c)) return -1;
  int64_t a, b, d;
  ngtcp2_conn_open_uni_stream(c->q, &a, NULL);
  nghttp3_conn_bind_control_stream(c->h, a);
  ngtcp2_conn_open_uni_stream(c->q, &b, NULL);
  ngtcp2_conn_open_uni_stream(c->q, &d, NULL);
  nghttp3_conn_bind_qpack_streams(c->h, b, d);
  return 0;
}
// ---- quic callbacks
static int q_hc(ngtcp2_conn* q, void* u) {
  conn* c = u;
  handshakes++;
  if (c->early && !ngtcp2_conn_get_early_data_rejected(q)) nearly++;
  return 0;
}
static int q_rk(ngtcp2_conn* q, ngtcp2_crypto_level l, void* u) {
  if (l != NGTCP2_CRYPTO_LEVEL_APPLICATION) return 0;
  return setup_h3(u);
}
static int q_data(ngtcp2_conn* q, uint32_t fl, int64_t sid, uint64_t off, const uint8_t* d,
                  size_t l, void* u, void* su) {
  conn* c = u;
  if (!c->h) return 0;
  nghttp3_ssize n = nghttp3_conn_read_stream(c->h, sid, d, l, fl & NGTCP2_STREAM_DATA_FLAG_FIN);
  if (n < 0) {
    fprintf(stderr, "read_stream %s\n", nghttp3_strerror(n));
    return NGTCP2_ERR_CALLBACK_FAILURE;
  }
  ngtcp2_conn_extend_max_stream_offset(q, sid, n);
  ngtcp2_conn_extend_max_offset(q, n);
  return 0;
}
static int q_ack(ngtcp2_conn* q, int64_t sid, uint64_t off, uint64_t l, void* u, void* su) {
  conn* c = u;
  if (c->h) nghttp3_conn_add_ack_offset(c->h, sid, l);
  return 0;
}
static int q_close(ngtcp2_conn* q, uint32_t fl, int64_t sid, uint64_t ec, void* u, void* su) {
  conn* c = u;
  if (!(fl & NGTCP2_STREAM_CLOSE_FLAG_APP_ERROR_CODE_SET)) ec = NGHTTP3_H3_NO_ERROR;
  if (c->h) {
    int rv = nghttp3_conn_close_stream(c->h, sid, ec);
    (void)rv;
  }
  if (mode) c->closing = 1;
  return 0;
}
static int q_reset(ngtcp2_conn* q, int64_t sid, uint64_t fs, uint64_t ec, void* u, void* su) {
  conn* c = u;
  if (c->h) nghttp3_conn_shutdown_stream_read(c->h, sid);
  return 0;
}
static int q_stops(ngtcp2_conn* q, int64_t sid, uint64_t ec, void* u, void* su) {
  conn* c = u;
  if (c->h) nghttp3_conn_shutdown_stream_read(c->h, sid);
  return 0;
}
static int q_emb(ngtcp2_conn* q, uint64_t n, void* u) { return 0; }
static int q_emsd(ngtcp2_conn* q, int64_t sid, uint64_t n, void* u, void* su) {
  conn* c = u;
  if (c->h) nghttp3_conn_unblock_stream(c->h, sid);
  return 0;
}
static void q_rand(uint8_t* d, size_t l, const ngtcp2_rand_ctx* x) {
  gnutls_rnd(GNUTLS_RND_NONCE, d, l);
}
static int q_ncid(ngtcp2_conn* q, ngtcp2_cid* cid, uint8_t* tok, size_t l, void* u) {
  gnutls_rnd(GNUTLS_RND_RANDOM, cid->data, l);
  cid->datalen = l;
  gnutls_rnd(GNUTLS_RND_RANDOM, tok, NGTCP2_STATELESS_RESET_TOKENLEN);
  return 0;
}
static int tls_hook(gnutls_session_t s, unsigned htype, unsigned when, unsigned inc,
                    const gnutls_datum_t* m) {
  if (htype == GNUTLS_HANDSHAKE_NEW_SESSION_TICKET && when == GNUTLS_HOOK_POST) {
    conn* c = ((ngtcp2_crypto_conn_ref*)gnutls_session_get_ptr(s))->user_data;
    c->got_ticket = 1;
    if (mode >= 2 && !ticket.data) {
      gnutls_session_get_data2(s, &ticket);
      tparams = *ngtcp2_conn_get_remote_transport_params(c->q);
      have_tp = 1;
    }
  }
  return 0;
}
static void conn_free(conn* c) {
  if (c->fd >= 0) {
    close(c->fd);
    c->fd = -1;
  }
  if (c->q) {
    ngtcp2_conn_del(c->q);
    c->q = NULL;
  }
  if (c->h) {
    nghttp3_conn_del(c->h);
    c->h = NULL;
  }
  if (c->tls) {
    gnutls_deinit(c->tls);
    c->tls = NULL;
  }
  c->alive = 0;
}
static void conn_close(conn* c, int send) {
  if (send && c->q) {
    uint8_t b[1500];
    ngtcp2_path_storage ps;
    ngtcp2_path_storage_zero(&ps);
    ngtcp2_pkt_info pi;
    ngtcp2_connection_close_error e;
    ngtcp2_connection_close_error_set_application_error(&e, NGHTTP3_H3_NO_ERROR, NULL, 0);
    ngtcp2_ssize n =
        ngtcp2_conn_write_connection_close(c->q, &ps.path, &pi, b, sizeof b, &e, now_ns());
    if (n > 0) send == 2 ? 0 : (void)!write(c->fd, b, n);
  }
  conn_free(c);
}
static int conn_start(conn* c) {
  int idx = c->idx;
  int in = 0;
  memset(c, 0, offsetof(conn, tbuf));
  c->idx = idx;
  c->fd = -1;
  c->inflight = in;
  c->alive = 1;
  c->t0 = now_ns();
  c->fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  int sz = 4 << 20;
  setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &sz, sizeof sz);
  setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &sz, sizeof sz);
  if (connect(c->fd, (void*)&rem, sizeof rem)) {
    perror("connect");
    exit(1);
  }
  socklen_t sl = sizeof c->loc;
  getsockname(c->fd, (void*)&c->loc, &sl);
  c->path.local.addr = (void*)&c->loc;
  c->path.local.addrlen = sizeof c->loc;
  c->path.remote.addr = (void*)&rem;
  c->path.remote.addrlen = sizeof rem;
  ngtcp2_callbacks cb = {0};
  cb.client_initial = ngtcp2_crypto_client_initial_cb;
  cb.recv_crypto_data = ngtcp2_crypto_recv_crypto_data_cb;
  cb.handshake_completed = q_hc;
  cb.encrypt = ngtcp2_crypto_encrypt_cb;
  cb.decrypt = ngtcp2_crypto_decrypt_cb;
  cb.hp_mask = ngtcp2_crypto_hp_mask_cb;
  cb.recv_stream_data = q_data;
  cb.acked_stream_data_offset = q_ack;
  cb.stream_close = q_close;
  cb.recv_retry = ngtcp2_crypto_recv_retry_cb;
  cb.extend_max_local_streams_bidi = q_emb;
  cb.rand = q_rand;
  cb.get_new_connection_id = q_ncid;
  cb.update_key = ngtcp2_crypto_update_key_cb;
  cb.stream_reset = q_reset;
  cb.extend_max_stream_data = q_emsd;
  cb.delete_crypto_aead_ctx = ngtcp2_crypto_delete_crypto_aead_ctx_cb;
  cb.delete_crypto_cipher_ctx = ngtcp2_crypto_delete_crypto_cipher_ctx_cb;
  cb.get_path_challenge_data = ngtcp2_crypto_get_path_challenge_data_cb;
  cb.stream_stop_sending = q_stops;
  cb.version_negotiation = ngtcp2_crypto_version_negotiation_cb;
  cb.recv_rx_key = q_rk;
  ngtcp2_cid d, s;
  s.datalen = d.datalen = 16;
  gnutls_rnd(GNUTLS_RND_RANDOM, d.data, 16);
  gnutls_rnd(GNUTLS_RND_RANDOM, s.data, 16);
  d.datalen = 18;
  gnutls_rnd(GNUTLS_RND_RANDOM, d.data, 18);
  ngtcp2_settings st;
  ngtcp2_settings_default(&st);
  st.initial_ts = c->t0;
  st.ack_thresh = ackthresh;
  st.initial_rtt = 5000000ull;
  st.max_window = 24 << 20;
  st.max_stream_window = 16 << 20;
  st.handshake_timeout = 10ull * 1000000000;
  ngtcp2_transport_params p;
  ngtcp2_transport_params_default(&p);
  p.initial_max_stream_data_bidi_local = 6 << 20;
  p.initial_max_stream_data_uni = 1 << 20;
  p.initial_max_data = 16 << 20;
  p.initial_max_streams_uni = 100;
  p.max_idle_timeout = 30ull * 1000000000;
  int rv =
      ngtcp2_conn_client_new(&c->q, &d, &s, &c->path, NGTCP2_PROTO_VER_V1, &cb, &st, &p, NULL, c);
  if (rv) {
    fprintf(stderr, "client_new %s\n", ngtcp2_strerror(rv));
    exit(1);
  }
  unsigned fl = GNUTLS_CLIENT;
  int resume = (mode >= 2 && ticket.data);
  if (mode == 3) fl |= GNUTLS_ENABLE_EARLY_DATA | GNUTLS_NO_END_OF_EARLY_DATA;
  gnutls_init(&c->tls, fl);
  gnutls_priority_set_direct(c->tls, prio, NULL);
  ngtcp2_crypto_gnutls_configure_client_session(c->tls);
  if (mode >= 2)
    gnutls_handshake_set_hook_function(c->tls, GNUTLS_HANDSHAKE_ANY, GNUTLS_HOOK_POST, tls_hook);
  c->ref.get_conn = getconn;
  c->ref.user_data = c;
  gnutls_session_set_ptr(c->tls, &c->ref);
  gnutls_credentials_set(c->tls, GNUTLS_CRD_CERTIFICATE, cred);
  gnutls_datum_t al = {(uint8_t*)"h3", 2};
  gnutls_alpn_set_protocols(c->tls, &al, 1, GNUTLS_ALPN_MANDATORY);
  gnutls_server_name_set(c->tls, GNUTLS_NAME_DNS, sni, strlen(sni));
  if (resume) {
    if (gnutls_session_set_data(c->tls, ticket.data, ticket.size))
      fprintf(stderr, "set_data failed\n");
  }
  ngtcp2_conn_set_tls_native_handle(c->q, c->tls);
  if (resume && mode == 3) {
    ngtcp2_conn_set_early_remote_transport_params(c->q, &tparams);
    c->early = 1;
    setup_h3(c);
  }
  struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
  epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev);
  submit(c);
  conn_write(c);
  return 0;
}
static void gso_send(conn* c, uint8_t* b, size_t n, size_t seg) {
  if (!n) return;
  struct iovec v = {b, n};
  char cm[CMSG_SPACE(2)] = {0};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
  if (n > seg) {
    m.msg_control = cm;
    m.msg_controllen = sizeof cm;
    struct cmsghdr* h = CMSG_FIRSTHDR(&m);
    h->cmsg_level = SOL_UDP;
    h->cmsg_type = UDP_SEGMENT;
    h->cmsg_len = CMSG_LEN(2);
    uint16_t s = seg;
    memcpy(CMSG_DATA(h), &s, 2);
  }
  if (sendmsg(c->fd, &m, 0) < 0 && errno != EAGAIN && errno != ECONNREFUSED) perror("sendmsg");
}
static void conn_write(conn* c) {
  if (!c->q) return;
  static uint8_t out[65536];
  size_t fill = 0, seg = 0;
  uint64_t ts = now_ns();
  size_t maxu = ngtcp2_conn_get_max_tx_udp_payload_size(c->q);
  size_t pu = ngtcp2_conn_get_path_max_tx_udp_payload_size(c->q);
  if (pu < maxu) maxu = pu;
  int cnt = 0;
  for (;;) {
    int64_t sid = -1;
    int fin = 0;
    nghttp3_vec vec[16];
    nghttp3_ssize nv = 0;
    if (c->h && ngtcp2_conn_get_max_data_left(c->q)) {
      nv = nghttp3_conn_writev_stream(c->h, &sid, &fin, vec, 16);
      if (nv < 0) {
        fprintf(stderr, "writev_stream %s\n", nghttp3_strerror(nv));
        conn_close(c, 1);
        return;
      }
    }
    ngtcp2_ssize nd = -1;
    uint32_t fl = NGTCP2_WRITE_STREAM_FLAG_MORE;
    if (fin) fl |= NGTCP2_WRITE_STREAM_FLAG_FIN;
    ngtcp2_path_storage ps;
    ngtcp2_path_storage_zero(&ps);
    ngtcp2_pkt_info pi;
    ngtcp2_ssize n = ngtcp2_conn_writev_stream(c->q, &ps.path, &pi, out + fill, maxu, &nd, fl, sid,
                                               (ngtcp2_vec*)vec, nv, ts);
    if (n < 0) {
      if (n == NGTCP2_ERR_WRITE_MORE) {
        nghttp3_conn_add_write_offset(c->h, sid, nd);
        continue;
      }
      if (n == NGTCP2_ERR_STREAM_DATA_BLOCKED) {
        nghttp3_conn_block_stream(c->h, sid);
        continue;
      }
      if (n == NGTCP2_ERR_STREAM_SHUT_WR) {
        nghttp3_conn_shutdown_stream_write(c->h, sid);
        continue;
      }
      fprintf(stderr, "write %s\n", ngtcp2_strerror(n));
      failed += c->inflight;
      conn_close(c, 1);
      return;
    }
    if (nd >= 0) nghttp3_conn_add_write_offset(c->h, sid, nd);
    if (n == 0) break;
    if (!use_gso) {
      gso_send(c, out + fill, n, n);
      continue;
    }
    if (fill == 0) seg = n;
    if ((size_t)n > seg) {
      gso_send(c, out, fill, seg);
      memmove(out, out + fill, n);
      fill = n;
      seg = n;
      cnt = 1;
    } else {
      fill += n;
      cnt++;
      if ((size_t)n < seg || cnt >= 32 || fill + maxu > sizeof out) {
        gso_send(c, out, fill, seg);
        fill = 0;
        cnt = 0;
      }
    }
  }
  if (fill) gso_send(c, out, fill, seg);
  ngtcp2_conn_update_pkt_tx_time(c->q, ts);
  c->expiry = ngtcp2_conn_get_expiry(c->q);
}
static void conn_read(conn* c) {
  static uint8_t bufs[32][2048];
  static struct mmsghdr mm[32];
  static struct iovec iv[32];
  static int init;
  if (!init) {
    for (int i = 0; i < 32; i++) {
      iv[i].iov_base = bufs[i];
      iv[i].iov_len = 2048;
      mm[i].msg_hdr.msg_iov = &iv[i];
      mm[i].msg_hdr.msg_iovlen = 1;
    }
    init = 1;
  }
  for (int k = 0; k < 4; k++) {
    int n = recvmmsg(c->fd, mm, 32, MSG_DONTWAIT, NULL);
    if (n <= 0) {
      break;
    }
    uint64_t ts = now_ns();
    for (int i = 0; i < n; i++) {
      ngtcp2_pkt_info pi = {0};
      int rv = ngtcp2_conn_read_pkt(c->q, &c->path, &pi, bufs[i], mm[i].msg_len, ts);
      if (rv) {
        if (rv != NGTCP2_ERR_DRAINING) fprintf(stderr, "read_pkt %s\n", ngtcp2_strerror(rv));
        failed += c->inflight;
        conn_close(c, rv != NGTCP2_ERR_DRAINING);
        return;
      }
    }
    if (n < 32) break;
  }
}
static void after(conn* c) {
  if (!c->q) {
    return;
  }
  submit(c);
  conn_write(c);
  if (c->q && mode && c->closing && c->inflight == 0 &&
      (mode != 2 && mode != 3 || ticket.data || c->got_ticket)) {
    conn_close(c, 1);
    if (!stopping && (duration > 0 || started < total)) conn_start(c);
  }
}
int main(int ac, char** av) {
  int o;
  const char* df = NULL;
  while ((o = getopt(ac, av, "c:m:n:D:w:d:p:u:M:GA:SB:L")) != -1) switch (o) {
      case 'c':
        nconn = atoi(optarg);
        break;
      case 'm':
        nstream = atoi(optarg);
        break;
      case 'n':
        total = atol(optarg);
        break;
      case 'D':
        duration = atof(optarg);
        break;
      case 'w':
        warm = atof(optarg);
        break;
      case 'd':
        df = optarg;
        break;
      case 'p':
        port = atoi(optarg);
        break;
      case 'u':
        path = optarg;
        break;
      case 'G':
        use_gso = 0;
        break;
      case 'A':
        ackthresh = atoi(optarg);
        break;
      case 'S':
        drip = 1;
        break;
      case 'L':
        lines = 1;
        break;
      case 'B':
        wanted = strtoul(optarg, NULL, 10);
        break;
      case 'M':
        mode = !strcmp(optarg, "hs")     ? 1
               : !strcmp(optarg, "res")  ? 2
               : !strcmp(optarg, "0rtt") ? 3
                                         : 0;
        break;
      default:
        return 2;
    }
  if (df) {
    FILE* f = fopen(df, "rb");
    if (!f) {
      perror(df);
      return 2;
    }
    file = body = malloc(FILE_MAX);
    bodylen = filelen = fread(body, 1, FILE_MAX, f);
    fclose(f);
    uint8_t* end = lines ? memchr(body, '\n', filelen) : NULL;
    if (end) bodylen = end - body;
  }
  if (mode) nstream = 1;
  gnutls_certificate_allocate_credentials(&cred);
  ep = epoll_create1(0);
  rem.sin_family = AF_INET;
  rem.sin_port = htons(port);
  inet_pton(AF_INET, host, &rem.sin_addr);
  C = calloc(nconn, sizeof(conn));
  t_first = now_ns();
  if (mode >= 2) {  // first fetch a ticket on one connection
    C[0].idx = 0;
    long t = total;
    double D = duration;
    total = 1;
    duration = 0;
    conn_start(&C[0]);
    uint64_t lim = now_ns() + 3000000000ull;
    while (now_ns() < lim && !(ticket.data && C[0].inflight == 0 && done)) {
      struct epoll_event ev[4];
      int n = epoll_wait(ep, ev, 4, 10);
      for (int i = 0; i < n; i++)
        if (C[0].q) {
          conn_read(&C[0]);
          if (C[0].q) {
            submit(&C[0]);
            conn_write(&C[0]);
          }
        }
      if (C[0].q && now_ns() >= C[0].expiry) {
        ngtcp2_conn_handle_expiry(C[0].q, now_ns());
        conn_write(&C[0]);
      }
      if (ticket.data && done) break;
    }
    if (!ticket.data) fprintf(stderr, "no session ticket received\n");
    conn_close(&C[0], 1);
    total = t;
    duration = D;
    started = done = handshakes = measured = 0;
    memset(hist, 0, sizeof hist);
    t_first = now_ns();
  }
  for (int i = 0; i < nconn; i++) {
    C[i].idx = i;
    C[i].fd = -1;
    conn_start(&C[i]);
  }
  uint64_t hard = t_first + (uint64_t)((duration > 0 ? duration + 3 : 120) * 1e9);
  struct epoll_event ev[256];
  static long wdone;
  int wflag = 0;
  for (;;) {
    uint64_t t = now_ns();
    if (warm > 0 && !wflag && t - t_first >= (uint64_t)(warm * 1e9)) {
      wflag = 1;
      wdone = done;
      fprintf(stderr, "W %ld\n", done);
      fflush(stderr);
    }
    if (duration > 0 && t - t_first >= (uint64_t)(duration * 1e9)) break;
    if (duration <= 0 && done + failed >= total) break;
    if (t > hard) {
      fprintf(stderr, "hard limit\n");
      break;
    }
    uint64_t mn = t + 50000000ull;
    int alive = 0;
    for (int i = 0; i < nconn; i++)
      if (C[i].q) {
        alive++;
        if (C[i].expiry < mn) mn = C[i].expiry;
      }
    if (!alive) {
      fprintf(stderr, "all connections dead\n");
      break;
    }
    int n;
    if (mn <= t)
      n = epoll_wait(ep, ev, 256, 0);
    else {
      struct timespec ts = {(mn - t) / 1000000000ull, (mn - t) % 1000000000ull};
      n = epoll_pwait2(ep, ev, 256, &ts, NULL);
    }
    for (int i = 0; i < n; i++) {
      conn* c = ev[i].data.ptr;
      if (!c->q) continue;
      conn_read(c);
      after(c);
    }
    t = now_ns();
    for (int i = 0; i < nconn; i++)
      if (C[i].q && C[i].expiry <= t) {
        int rv = ngtcp2_conn_handle_expiry(C[i].q, t);
        if (rv) {
          fprintf(stderr, "expiry %s\n", ngtcp2_strerror(rv));
          failed += C[i].inflight;
          conn_close(&C[i], 1);
          if (mode && !stopping) conn_start(&C[i]);
          continue;
        }
        after(&C[i]);
      }
  }
  uint64_t tend = now_ns();
  fprintf(stderr, "X %ld\n", done);
  fflush(stderr);
  double el = (tend - t_first) / 1e9;
  struct rusage ru;
  getrusage(RUSAGE_SELF, &ru);
  double cpu = ru.ru_utime.tv_sec + ru.ru_utime.tv_usec / 1e6 + ru.ru_stime.tv_sec +
               ru.ru_stime.tv_usec / 1e6;
  uint64_t p50 = 0, p99 = 0, acc = 0, tot = 0;
  for (int i = 0; i < HB; i++) tot += hist[i];
  for (int i = 0; i < HB; i++) {
    acc += hist[i];
    if (!p50 && acc * 2 >= tot && tot) p50 = unbucket(i);
    if (!p99 && acc * 100 >= tot * 99 && tot) p99 = unbucket(i);
  }
  uint64_t e50 = 0, e99 = 0;
  acc = 0;
  for (int i = 0; i < HB; i++) {
    acc += elhist[i];
    if (!e50 && acc * 2 >= (uint64_t)events && events) e50 = unbucket(i);
    if (!e99 && acc * 100 >= (uint64_t)events * 99 && events) e99 = unbucket(i);
  }
  printf(
      "{\"done\":%ld,\"failed\":%ld,\"elapsed\":%.3f,\"rps\":%.1f,\"hs\":%ld,\"early\":%ld,\"p50_"
      "us\":%lu,\"p99_us\":%lu,\"bytes\":%lu,\"client_cpu_s\":%.3f,\"client_us_per_req\":%.1f",
      done, failed, el, done / el, handshakes, nearly, p50, p99, st.bytes, cpu,
      done ? cpu * 1e6 / done : 0);
  if (drip) printf(",\"events\":%ld,\"ev_p50_us\":%lu,\"ev_p99_us\":%lu", events, e50, e99);
  printf("}\n");
  for (int i = 0; i < nconn; i++)
    if (C[i].q) conn_close(&C[i], 1);
  return failed ? 1 : 0;
}
