package main

import "fmt"
import "os"

func main() {
	socket := subscribe(os.Args[1], "v1/"+os.Args[2]+"/masks")
	for {
		frame := parse(socket.receive()[1])
		for _, object := range frame.Objects {
			fmt.Println(frame.Frame, object.ID, area(object.Mask.decode()))
		}
	}
}
