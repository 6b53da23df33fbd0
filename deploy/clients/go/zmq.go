package main

// #cgo pkg-config: libzmq
// #include <stdlib.h>
// #include <zmq.h>
import "C"

import (
	"log"
	"unsafe"
)

// Socket is the little of libzmq that a subscriber needs. With a package of your own choice for ZeroMQ, such as
// github.com/pebbe/zmq4, this file is not needed.
type Socket struct{ socket unsafe.Pointer }

// subscribe connects to endpoint for the messages whose topic begins with topic.
func subscribe(endpoint, topic string) Socket {
	socket := Socket{C.zmq_socket(C.zmq_ctx_new(), C.ZMQ_SUB)}
	socket.set(C.ZMQ_SUBSCRIBE, topic)
	address := C.CString(endpoint)
	defer C.free(unsafe.Pointer(address))
	if C.zmq_connect(socket.socket, address) != 0 {
		log.Fatalf("cannot subscribe to %s: %s", endpoint, failure())
	}
	return socket
}

// set gives the socket an option that is text, such as a key; all but ZMQ_SUBSCRIBE must come before it connects.
func (socket Socket) set(option C.int, value string) {
	text := C.CString(value)
	defer C.free(unsafe.Pointer(text))
	if C.zmq_setsockopt(socket.socket, option, unsafe.Pointer(text), C.size_t(len(value))) != 0 {
		log.Fatalf("option %d refused: %s", option, failure())
	}
}

// receive waits for a message and gives its parts.
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
