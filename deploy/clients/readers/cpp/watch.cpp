#include <zmq_addon.hpp>
#include "rle.hpp"
int main(int, char** argv) {
  zmq::context_t context;
  zmq::socket_t socket(context, zmq::socket_type::sub);
  socket.connect(argv[1]);
  socket.set(zmq::sockopt::subscribe, std::string("v1/") + argv[2] + "/masks");
  for (zmq::multipart_t message; message.recv(socket);)
    for (auto frame = json::parse(message.peekstr(1)); const auto& thing : frame["objects"])
      std::cout << frame["frame"] << ' ' << thing["id"] << ' ' << area(decode(thing["mask"])) << std::endl;
}
