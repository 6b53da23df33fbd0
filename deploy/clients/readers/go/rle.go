package main

import (
	"encoding/json"
	"log"
)

// Header holds the fields of a masks header that this reader uses.
type Header struct {
	Frame   int64
	Objects []struct {
		ID   int64
		Mask Mask
	}
}

// Mask holds COCO run lengths: alternating runs of 0 and 1, column by column, starting with 0.
type Mask struct {
	Size   [2]int // height, width
	Counts Runs
}

// Runs are run lengths, parsed from plain integers or from COCO's compressed string.
type Runs []int

func parse(header []byte) (parsed Header) {
	if err := json.Unmarshal(header, &parsed); err != nil {
		log.Fatalf("a header is not JSON of this version: %v", err)
	}
	return parsed
}

// decode returns the pixels row by row: pixel (x, y) is at y*width + x.
func (mask Mask) decode() []bool {
	height, width := mask.Size[0], mask.Size[1]
	pixels := make([]bool, height*width)
	at := 0
	for index, run := range mask.Counts {
		for end := at + run; at < end; at++ {
			pixels[at%height*width+at/height] = index%2 == 1
		}
	}
	if at != len(pixels) {
		log.Fatalf("a mask's runs fill %d of its %d pixels", at, len(pixels))
	}
	return pixels
}

// area counts the pixels of the object.
func area(pixels []bool) (count int) {
	for _, pixel := range pixels {
		if pixel {
			count++
		}
	}
	return count
}

// UnmarshalJSON parses either encoding. In the string each character holds 5 bits of a number, low bits first. Bit 6 is
// set when more characters of the number follow; bit 5 of its last character is the sign. From the fourth run on, the
// difference to the run two before is stored.
func (runs *Runs) UnmarshalJSON(data []byte) error {
	if data[0] == '[' {
		return json.Unmarshal(data, (*[]int)(runs))
	}
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return err
	}
	value, shift := 0, 0
	for _, character := range []byte(text) {
		code := int(character) - 48
		value |= code & 31 << shift
		shift += 5
		if code&32 != 0 {
			continue
		}
		if code&16 != 0 {
			value -= 1 << shift
		}
		if count := len(*runs); count > 2 {
			value += (*runs)[count-2]
		}
		*runs = append(*runs, value)
		value, shift = 0, 0
	}
	return nil
}
