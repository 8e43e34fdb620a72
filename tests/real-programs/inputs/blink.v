// Counts at 12 MHz and shows four bits of the count; a memory turns the count into a pattern.
module blink(input clk, output reg [3:0] led);
    reg [7:0] pattern [0:255];
    initial $readmemh("/in/pattern.hex", pattern);
    reg [19:0] count = 0;
    reg [7:0] current;
    always @(posedge clk) begin
        count <= count + 1;
        current <= pattern[count[19:12]];
        led <= current[3:0] ^ count[19:16];
    end
endmodule
