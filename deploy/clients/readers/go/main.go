package main

import "fmt"
import "os"

func main() {
	socket := subscribe("v1/" + os.Args[2] + "/masks")
	socket.connect(os.Args[1])
	for {
		frame := parse(socket.receive()[1])
		for _, object := range frame.Objects {
			fmt.Println(frame.Frame, object.ID, area(object.Mask.decode()))
		}
	}
}
