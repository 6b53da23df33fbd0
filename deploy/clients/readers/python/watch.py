import sys

import zmq
from rle import decode

socket = zmq.Context().socket(zmq.SUB)
socket.connect(sys.argv[1])
socket.subscribe(f"v1/{sys.argv[2]}/masks")
while True:
    topic, frame = socket.recv(), socket.recv_json()
    for thing in frame["objects"]:
        print(frame["frame"], thing["id"], decode(thing["mask"]).sum(), flush=True)
