package main

import (
	"encoding/json"
	"log"
)

// Header is what this reader uses of a masks header.
type Header struct {
	Frame   int64
	Objects []struct {
		ID   int64
		Mask Mask
	}
}

// Mask is COCO run lengths: runs of 0 and 1 in turn, down one column after the other, the first of 0.
type Mask struct {
	Size   [2]int // height, width
	Counts Runs
}

// Runs are read from plain integers or from COCO's compressed string.
type Runs []int

func parse(header []byte) (parsed Header) {
	if err := json.Unmarshal(header, &parsed); err != nil {
		log.Fatalf("a header is not JSON of this version: %v", err)
	}
	return parsed
}

// decode gives the pixels row by row; the pixel (x, y) is at y*width + x.
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

// UnmarshalJSON reads either encoding. In the string a character holds 5 bits, low ones first; the sixth says that
// more follow, the fifth of the last is the sign; from the fourth run on only the difference to the run before last
// is stored.
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
