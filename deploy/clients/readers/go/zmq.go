package main

// #cgo pkg-config: libzmq
// #include <stdlib.h>
// #include <zmq.h>
import "C"

import (
	"log"
	"unsafe"
)

// Socket wraps the part of libzmq that a subscriber needs. With a ZeroMQ package, such as github.com/pebbe/zmq4, you do
// not need this file.
type Socket struct{ socket unsafe.Pointer }

// subscribe creates a socket for messages whose topic starts with topic.
func subscribe(topic string) Socket {
	socket := Socket{C.zmq_socket(C.zmq_ctx_new(), C.ZMQ_SUB)}
	socket.set(C.ZMQ_SUBSCRIBE, topic)
	return socket
}

// curve sets the CURVE keys, 40 characters each; call it before connect.
func (socket Socket) curve(server, public, secret string) {
	socket.set(C.ZMQ_CURVE_SERVERKEY, server)
	socket.set(C.ZMQ_CURVE_PUBLICKEY, public)
	socket.set(C.ZMQ_CURVE_SECRETKEY, secret)
}

func (socket Socket) connect(endpoint string) {
	address := C.CString(endpoint)
	defer C.free(unsafe.Pointer(address))
	if C.zmq_connect(socket.socket, address) != 0 {
		log.Fatalf("cannot connect to %s: %s", endpoint, failure())
	}
}

func (socket Socket) set(option C.int, value string) {
	text := C.CString(value)
	defer C.free(unsafe.Pointer(text))
	if C.zmq_setsockopt(socket.socket, option, unsafe.Pointer(text), C.size_t(len(value))) != 0 {
		log.Fatalf("a socket's option is refused: %s", failure())
	}
}

// receive waits for a message and returns its parts.
func (socket Socket) receive() (parts [][]byte) {
	var message C.zmq_msg_t
	C.zmq_msg_init(&message)
	defer C.zmq_msg_close(&message)
	for more := true; more; more = C.zmq_msg_more(&message) != 0 {
		for C.zmq_msg_recv(&message, socket.socket, 0) < 0 {
			if C.zmq_errno() != C.EINTR { // the signals of Go's own scheduler
				log.Fatalf("cannot receive: %s", failure())
			}
		}
		parts = append(parts, C.GoBytes(C.zmq_msg_data(&message), C.int(C.zmq_msg_size(&message))))
	}
	return parts
}

func failure() string { return C.GoString(C.zmq_strerror(C.zmq_errno())) }
