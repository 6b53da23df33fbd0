// Decodes COCO run lengths: alternating runs of 0 and 1, column by column, starting with 0.
#pragma once
#include <algorithm>
#include <iostream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

using nlohmann::json;

// The compressed string: each character holds 5 bits of a number, low bits first. Bit 6 is set when more characters of
// the number follow; bit 5 of its last character is the sign. From the fourth run on, the difference to the run two
// before is stored.
inline std::vector<long> parse_runs(const std::string& text) {
  std::vector<long> runs;
  long value = 0;
  int shift = 0;
  for (const char character : text) {
    const long code = character - 48;
    value |= (code & 31) << shift;
    shift += 5;
    if (code & 32) continue;
    if (code & 16) value -= 1L << shift;
    runs.push_back(runs.size() > 2 ? value + runs[runs.size() - 2] : value);
    value = shift = 0;
  }
  return runs;
}

// Decodes `mask` of a header to 0 and 1, row by row: pixel (x, y) is at y * width + x.
inline std::vector<unsigned char> decode(const json& mask) {
  const size_t height = mask["size"][0], width = mask["size"][1];
  const json& counts = mask["counts"];
  const auto runs = counts.is_string() ? parse_runs(counts) : counts.get<std::vector<long>>();
  std::vector<unsigned char> pixels(height * width);
  size_t at = 0;
  for (size_t index = 0; index < runs.size(); index++)
    for (long left = runs[index]; left > 0 && at < pixels.size(); left--, at++)
      pixels[at % height * width + at / height] = index % 2;
  if (at != pixels.size()) throw std::runtime_error("a mask's runs do not fill its pixels");
  return pixels;
}

// The number of pixels of the object.
inline long area(const std::vector<unsigned char>& pixels) { return std::count(pixels.begin(), pixels.end(), 1); }
